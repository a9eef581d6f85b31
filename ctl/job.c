/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/job.h"

#include <inttypes.h>
#include <libsmartcols.h>
#include <string.h>

#include "base/states.h"
#include "base/utf8.h"
#include "ctl/format.h"
#include "ctl/state-color.h"
#include "ctl/table.h"

#define BAR_WIDTH 10

bool job_is_finished(const Record *job) {
        JobState s = job_state_from_string(record_get_string(job, "state"));

        return s >= 0 && job_state_is_final(s);
}

int job_compare(const void *a, const void *b) {
        uint64_t x = record_get_number(a, "id", 0), y = record_get_number(b, "id", 0);

        return x < y ? -1 : x > y;
}

static char *entries_text(const Record *job) {
        uint64_t done = record_get_number(job, "entries_done", 0),
                 total = record_get_number(job, "entries_total", 0);
        char *s;
        int r;

        if (total > 0 && !job_is_finished(job))
                r = asprintf(&s, "%" PRIu64 "/%" PRIu64, done, total);
        else
                r = asprintf(&s, "%" PRIu64, done);
        return r < 0 ? NULL : s;
}

static int entries_cell(const Record *job, char **ret) {
        *ret = entries_text(job);
        return *ret ? 0 : -ENOMEM;
}

/* Why it failed, or does not get on. */
static int why_cell(const Record *job, char **ret) {
        const char *why = record_get_string(job, "error_message") ?: record_get_string(job, "reason");

        *ret = why ? utf8_escape_line(why) : NULL;
        return why && !*ret ? -ENOMEM : 0;
}

static int type_cell(const Record *job, char **ret) {
        _cleanup_free_ char *type = utf8_escape_line(record_get_string(job, "type") ?: "?");

        if (!type)
                return -ENOMEM;
        if (record_get_boolean(job, "dry_run"))
                return asprintf(ret, "%s (dry run)", type) < 0 ? -ENOMEM : 0;
        *ret = TAKE_PTR(type);
        return 0;
}

static Color state_color(const Record *job) {
        return job_state_color(record_get_string(job, "state"));
}

int job_print_table(Ctl *c, RecordList *list) {
        static const TableColumn columns[] = {
                { "JOB", "id", SCOLS_FL_RIGHT, NULL, NULL },
                { "TYPE", "type", 0, type_cell, NULL },
                { "STATE", "state", 0, NULL, state_color },
                { "ENTRIES", "entries_done", SCOLS_FL_RIGHT, entries_cell, NULL },
                { "PATH", "path", SCOLS_FL_TRUNC, NULL, NULL },
                { "ERROR", "error_message", SCOLS_FL_WRAP, why_cell, NULL },
        };

        return table_print(c, columns, ELEMENTSOF(columns), list);
}

/* "██████░░░░  64 %, "; nothing while it is not known how much there is. */
static char *bar_text(const Record *job) {
        uint64_t done = record_get_number(job, "entries_done", 0),
                 total = record_get_number(job, "entries_total", 0);
        _cleanup_free_ char *bar = NULL;
        char *s;

        if (total == 0)
                return strdup("");
        bar = term_bar(done, total, BAR_WIDTH);
        if (!bar || asprintf(&s, "%s %3u %%, ", bar, (unsigned) ((double) done * 100 / (double) total)) < 0)
                return NULL;
        return s;
}

char *job_describe(const Record *job) {
        _cleanup_free_ char *path = utf8_escape_line(record_get_string(job, "path") ?: "?"),
                            *entries = entries_text(job), *bar = bar_text(job),
                            *reason = utf8_escape_line(record_get_string(job, "reason") ?: "");
        char *s;
        int r;

        if (!path || !entries || !bar || !reason)
                return NULL;
        r = asprintf(
                &s, "%" PRIu64 ": %s %s, %s, %s%s entries%s%s", record_get_number(job, "id", 0),
                record_get_string(job, "type") ?: "?", path, record_get_string(job, "state") ?: "?", bar,
                entries, *reason ? "; " : "", reason);
        return r < 0 ? NULL : s;
}

ExitCode job_exit_code(const Record *job) {
        const char *state = record_get_string(job, "state");

        if (state && strcmp(state, "done") == 0)
                return EXIT_CODE_OK;
        return exit_code_from_error_name(record_get_string(job, "error_name"));
}

static char *duration_text(const Record *job) {
        uint64_t started = record_get_number(job, "started_usec", 0),
                 finished = record_get_number(job, "finished_usec", 0);

        return started > 0 && finished >= started ? format_duration(finished - started) : NULL;
}

/* "61 entries in 40 directories" */
static char *done_text(uint64_t n_entries, uint64_t n_directories) {
        _cleanup_free_ char *entries = format_quantity(n_entries, "entry", "entries"),
                            *directories = format_quantity(n_directories, "directory", "directories");
        char *s;
        int r;

        if (!entries || !directories)
                return NULL;
        if (n_entries == 0 && n_directories == 0)
                return strdup("nothing to do");
        r = asprintf(
                &s, "%s%s%s", entries, n_directories > 0 ? " in " : "",
                n_directories > 0 ? directories : "");
        return r < 0 ? NULL : s;
}

static char *left_text(uint64_t n, const char *state) {
        char *s;

        if (n == 0)
                return strdup("");
        return asprintf(&s, ", %" PRIu64 " %s", n, state) < 0 ? NULL : s;
}

/* "finalize" -> "finalized" */
static const char *past_suffix(const char *type, int *ret_length) {
        size_t n = strlen(type);
        bool is_verify = n > 0 && type[n - 1] == 'y';

        *ret_length = (int) (is_verify ? n - 1 : n);
        return is_verify ? "ied" : n > 0 && type[n - 1] == 'e' ? "d" : "ed";
}

char *job_summary(const Record *job, const JobOutcome *o) {
        _cleanup_free_ char *path = utf8_escape_line(record_get_string(job, "path") ?: "?"),
                            *done = done_text(record_get_number(job, "entries_done", 0), o->n_directories),
                            *excluded = left_text(o->n_excluded, "excluded"),
                            *pending = left_text(o->n_pending, "pending"), *duration = duration_text(job);
        const char *type = record_get_string(job, "type") ?: "finalize", *suffix;
        int r, length;
        char *s;

        if (path && strcmp(type, "remount") == 0)
                return asprintf(&s, "%s remounted%s%s", path, duration ? ": " : "", duration ?: "") < 0
                        ? NULL
                        : s;
        if (!path || !done || !excluded || !pending)
                return NULL;
        suffix = past_suffix(type, &length);
        r = asprintf(
                &s, "%s %.*s%s: %s%s%s%s%s", path, length, type, suffix, done, excluded, pending,
                duration ? ", " : "", duration ?: "");
        return r < 0 ? NULL : s;
}
