/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/job.h"

#include <inttypes.h>
#include <libsmartcols.h>
#include <string.h>

#include "base/states.h"
#include "ctl/format.h"
#include "ctl/state-color.h"
#include "ctl/table.h"

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

static Color state_color(const Record *job) {
        return job_state_color(record_get_string(job, "state"));
}

int job_print_table(Ctl *c, RecordList *list) {
        static const TableColumn columns[] = {
                { "JOB", "id", SCOLS_FL_RIGHT, NULL, NULL },
                { "TYPE", "type", 0, NULL, NULL },
                { "STATE", "state", 0, NULL, state_color },
                { "ENTRIES", "entries_done", SCOLS_FL_RIGHT, entries_cell, NULL },
                { "PATH", "path", 0, NULL, NULL },
                { "ERROR", "error_message", SCOLS_FL_TRUNC, NULL, NULL },
        };

        return table_print(c, columns, ELEMENTSOF(columns), list);
}

char *job_describe(const Record *job) {
        _cleanup_free_ char *path = format_escape(record_get_string(job, "path") ?: "?"),
                            *entries = entries_text(job);
        char *s;
        int r;

        if (!path || !entries)
                return NULL;
        r = asprintf(
                &s, "%" PRIu64 ": %s %s, %s, %s entries", record_get_number(job, "id", 0),
                record_get_string(job, "type") ?: "?", path, record_get_string(job, "state") ?: "?",
                entries);
        return r < 0 ? NULL : s;
}

ExitCode job_exit_code(const Record *job) {
        const char *state = record_get_string(job, "state");

        if (state && strcmp(state, "done") == 0)
                return EXIT_CODE_OK;
        return exit_code_from_error_name(record_get_string(job, "error_name"));
}

/* Directories the job left in the state it works towards; the daemon tells by state, where it tells. */
static uint64_t count_directories(const Record *job, const char *state, uint64_t fallback) {
        const RecordList *counts = record_get_list(job, "directories");

        return counts->n > 0 ? record_get_number(&counts->items[0], state, 0) : fallback;
}

static char *duration_text(const Record *job) {
        uint64_t started = record_get_number(job, "started_usec", 0),
                 finished = record_get_number(job, "finished_usec", 0);

        return started > 0 && finished >= started ? format_duration(finished - started) : strdup("");
}

char *job_summary(const Record *job, uint64_t n_directories) {
        const char *type = record_get_string(job, "type") ?: "finalize";
        bool undo = strcmp(type, "unfinalize") == 0;
        uint64_t n_entries = record_get_number(job, "entries_done", 0);
        uint64_t n = count_directories(job, undo ? "merged" : "finalized", n_directories);
        _cleanup_free_ char *path = format_escape(record_get_string(job, "path") ?: "?"),
                            *duration = duration_text(job),
                            *entries = format_quantity(n_entries, "entry", "entries"),
                            *directories = format_quantity(n, "directory", "directories");
        char *s;
        int r;

        if (!path || !duration || !entries || !directories)
                return NULL;
        r = asprintf(
                &s, "%s %sd: %s%s%s%s%s", path, type, entries, n > 0 ? " in " : "", n > 0 ? directories : "",
                *duration ? ", " : "", duration);
        return r < 0 ? NULL : s;
}
