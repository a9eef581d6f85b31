/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/job-report.h"

#include <libsmartcols.h>
#include <string.h>

#include "base/states.h"
#include "base/utf8.h"
#include "ctl/format.h"
#include "ctl/job.h"
#include "ctl/problems.h"
#include "ctl/table.h"
#include "ctl/verbs.h"

#define N_LEFT_MAX 10 /* directories left out that are named one by one */

static char *count_text(const Record *r, const char *key) {
        uint64_t n = record_get_number(r, key, 0);

        return n > 0 ? format_count(n) : strdup("");
}

static char *entries_text(const Record *r) {
        return count_text(r, "entries");
}

static char *inodes_text(const Record *r) {
        return count_text(r, "inodes");
}

static char *space_text(const Record *r) {
        uint64_t n = record_get_number(r, "bytes", 0);

        return n > 0 ? format_bytes(n) : strdup("");
}

/* Whether each step is about the whole path, so that saying so in each line is noise. */
static bool is_about_one_path(const Record *job, const RecordList *plan) {
        const char *path = record_get_string(job, "path"), *s;

        for (size_t i = 0; i < plan->n; i++) {
                s = record_get_string(&plan->items[i], "path");
                if (s && path && strcmp(s, path) != 0)
                        return false;
        }
        return true;
}

static int print_plan(Ctl *c, Record *job) {
        static const TableColumn columns[] = {
                { "PATH", "path", SCOLS_FL_TRUNC, NULL, NULL },
                { "STEP", "name", 0, NULL, NULL },
                { "ENTRIES", "entries", SCOLS_FL_RIGHT, entries_text, NULL },
                { "INODES", "inodes", SCOLS_FL_RIGHT, inodes_text, NULL },
                { "SPACE", "bytes", SCOLS_FL_RIGHT, space_text, NULL },
                { "WHAT", "text", SCOLS_FL_WRAP, NULL, NULL },
        };
        _cleanup_free_ char *path = utf8_escape_line(record_get_string(job, "path") ?: "?");
        const RecordList *plan = record_get_list(job, "plan");
        size_t skip = is_about_one_path(job, plan);

        if (!path)
                return -ENOMEM;
        if (ctl_want_legend(c))
                (void) printf("%s: %s\n", path, plan->n > 0 ? "this would be done" : "nothing to do");
        return plan->n > 0 ? table_print(c, columns + skip, ELEMENTSOF(columns) - skip, plan) : 0;
}

static void print_notes(const Record *job) {
        for (char *const *s = record_get_strings(job, "notes"); *s; s++)
                print_error("note: %s", *s);
}

/* Directories at or below the job's path that are in a state, from the daemon's memory. */
static int list_left(Ctl *c, const Record *job, const char *state, RecordList *ret) {
        return client_call_list(
                &c->client, "ListDirectories", ret, "sa{sv}", record_get_string(job, "overlay") ?: "", 2,
                "state", "s", state, "path", "s", record_get_string(job, "path") ?: "/");
}

/* What finalize had to leave as it is, and why; returns how many. Not knowing it is no failure of the job.
 */
static uint64_t report_left(Ctl *c, const Record *job, DirectoryState state) {
        const char *word = directory_state_to_string(state);
        _cleanup_record_list_ RecordList l = { 0 };

        if (list_left(c, job, word, &l) < 0)
                return 0;
        for (size_t i = 0; i < l.n && i < N_LEFT_MAX; i++)
                print_error(
                        "note: '%s' is %s: %s", record_get_string(&l.items[i], "path") ?: "?", word,
                        record_get_string(&l.items[i], "reason") ?: "no reason is known");
        if (l.n > N_LEFT_MAX)
                print_error(
                        "note: %zu more; 'ovlfinctl directories --state=%s' shows all", l.n - N_LEFT_MAX,
                        word);
        return l.n;
}

static int print_summary(Ctl *c, const WaitedJob *j) {
        JobOutcome o = { .n_directories = j->n_directories };
        _cleanup_free_ char *summary = NULL;

        if (strcmp(c->verb->name, "finalize") == 0) {
                o.n_excluded = report_left(c, &j->record, DIRECTORY_EXCLUDED);
                o.n_pending = report_left(c, &j->record, DIRECTORY_PENDING);
        }
        summary = job_summary(&j->record, &o);
        if (!summary)
                return -ENOMEM;
        (void) puts(summary);
        return 0;
}

static void print_failure(const Ctl *c, const WaitedJob *j) {
        const char *why = record_get_string(&j->record, "error_message");

        if (!why)
                why = record_get_string(&j->record, "state");
        print_error("cannot %s '%s': %s", c->verb->name, j->argument, why ?: "the job is lost");
}

int job_report(Ctl *c, WaitedJob *j) {
        ExitCode code = job_exit_code(&j->record);
        int r = 0;

        if (!options_have(&c->options, OPTION_QUIET))
                print_notes(&j->record);
        if (code != EXIT_CODE_OK) {
                print_failure(c, j);
                return (int) code;
        }
        if (c->options.json != JSON_OFF)
                return problems_exit_code(record_get_list(&j->record, "problems"));
        if (strcmp(c->verb->name, "verify") == 0)
                r = problems_print(c, record_get_list(&j->record, "problems"));
        if (r >= 0 && options_have(&c->options, OPTION_DRY_RUN))
                r = print_plan(c, &j->record);
        else if (!options_have(&c->options, OPTION_QUIET))
                r = print_summary(c, j);
        if (r < 0)
                return print_oom();
        return problems_exit_code(record_get_list(&j->record, "problems"));
}
