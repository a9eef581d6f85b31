/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/job.h"

#include <inttypes.h>
#include <libsmartcols.h>
#include <string.h>

#include "base/states.h"
#include "base/str.h"
#include "base/utf8.h"
#include "ctl/format.h"
#include "ctl/state-color.h"
#include "ctl/table.h"

#define BAR_WIDTH 10

bool job_is_finished(const Record *job) {
        JobState s = job_state_from_string(record_get_string(job, "state"));

        return s >= 0 && job_state_is_final(s);
}

static char *entries_text(const Record *job) {
        uint64_t done = record_get_number(job, "entries_done", 0),
                 total = record_get_number(job, "entries_total", 0);

        return total > 0 && !job_is_finished(job) ? str_format("%" PRIu64 "/%" PRIu64, done, total)
                                                  : str_format("%" PRIu64, done);
}

/* Why it failed, or does not get on. */
static char *why_text(const Record *job) {
        return utf8_escape_line(
                record_get_string(job, "error_message") ?: record_get_string(job, "reason") ?: "");
}

static char *type_text(const Record *job) {
        _cleanup_free_ char *type = utf8_escape_line(record_get_string(job, "type") ?: "?");

        return type ? str_format("%s%s", type, record_get_boolean(job, "dry_run") ? " (dry run)" : "")
                    : NULL;
}

int job_print_table(Ctl *c, RecordList *list) {
        static const TableColumn columns[] = {
                { "JOB", "id", SCOLS_FL_RIGHT, NULL, NULL },
                { "TYPE", "type", 0, type_text, NULL },
                { "STATE", "state", 0, NULL, job_state_color },
                { "ENTRIES", "entries_done", SCOLS_FL_RIGHT, entries_text, NULL },
                { "PATH", "path", SCOLS_FL_TRUNC, NULL, NULL },
                { "ERROR", "error_message", SCOLS_FL_WRAP, why_text, NULL },
        };

        return table_answer(c, "jobs", "No jobs.", columns, ELEMENTSOF(columns), list);
}

/* "██████░░░░  64 %, "; nothing while it is not known how much there is. */
static char *bar_text(const Record *job) {
        uint64_t done = record_get_number(job, "entries_done", 0),
                 total = record_get_number(job, "entries_total", 0);
        _cleanup_free_ char *bar = NULL;

        if (total == 0)
                return strdup("");
        bar = term_bar(done, total, BAR_WIDTH);
        return bar ? str_format("%s %3u %%, ", bar, (unsigned) ((double) done * 100 / (double) total))
                   : NULL;
}

char *job_describe(const Record *job) {
        _cleanup_free_ char *path = utf8_escape_line(record_get_string(job, "path") ?: "?"),
                            *entries = entries_text(job), *bar = bar_text(job),
                            *reason = utf8_escape_line(record_get_string(job, "reason") ?: "");

        if (!path || !entries || !bar || !reason)
                return NULL;
        return str_format(
                "%" PRIu64 ": %s %s, %s, %s%s entries%s%s", record_get_number(job, "id", 0),
                record_get_string(job, "type") ?: "?", path, record_get_string(job, "state") ?: "?", bar,
                entries, *reason ? "; " : "", reason);
}

ExitCode job_exit_code(const Record *job) {
        if (record_is(job, "state", "done"))
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

        if (!entries || !directories)
                return NULL;
        if (n_entries == 0 && n_directories == 0)
                return strdup("nothing to do");
        return str_format(
                "%s%s%s", entries, n_directories > 0 ? " in " : "", n_directories > 0 ? directories : "");
}

static char *left_text(uint64_t n, const char *state) {
        return n == 0 ? strdup("") : str_format(", %" PRIu64 " %s", n, state);
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
        int length;

        if (path && strcmp(type, "remount") == 0)
                return str_format("%s remounted%s%s", path, duration ? ": " : "", duration ?: "");
        if (!path || !done || !excluded || !pending)
                return NULL;
        suffix = past_suffix(type, &length);
        return str_format(
                "%s %.*s%s: %s%s%s%s%s", path, length, type, suffix, done, excluded, pending,
                duration ? ", " : "", duration ?: "");
}
