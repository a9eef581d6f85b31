/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/state.h"

#include <string.h>

#include "service/state-file.h"

#define HEADER "ovlfind-jobs 1" /* the version of the format */

static void write_job(FILE *f, const Job *j) {
        const char *const fields[] = { j->overlay, j->mount_point, j->path };

        if (job_state_is_final(j->state) || j->options.is_dry_run || job_is_unasked(j))
                return;
        (void) fprintf(
                f, "%u %s %u %llu", j->id, job_type_to_string(j->type), j->n_attempts,
                (unsigned long long) j->queued_usec);
        for (size_t i = 0; i < ELEMENTSOF(fields); i++) {
                (void) fputc(' ', f);
                state_file_write_field(f, fields[i]);
        }
        if (job_options_are_default(&j->options))
                (void) fprintf(f, " %u", j->options.uid);
        (void) fputc('\n', f);
}

char *state_format(uint32_t last_id, const Queue *q) {
        StateText t;
        FILE *f = state_text_begin(&t, HEADER);

        if (!f)
                return NULL;
        (void) fprintf(f, "last %u\n", last_id);
        QUEUE_FOREACH (j, q)
                write_job(f, *j);
        return state_text_end(&t);
}

static int parse_job(char *line, SavedJob *ret) {
        uint64_t id, n_attempts, queued_usec, uid = 0;
        char *fields[8];

        state_file_split(line, fields, ELEMENTSOF(fields));
        if (state_file_parse_number(fields[0], UINT32_MAX, &id) < 0 ||
            state_file_parse_number(fields[2], 1000, &n_attempts) < 0 ||
            state_file_parse_number(fields[3], UINT64_MAX, &queued_usec) < 0 ||
            (fields[7] && state_file_parse_number(fields[7], UINT32_MAX, &uid) < 0))
                return -EBADMSG;
        *ret = (SavedJob){
                .id = (uint32_t) id,
                .type = job_type_from_string(fields[1]),
                .n_attempts = (unsigned) n_attempts,
                .can_go_on = fields[7],
                .uid = (uid_t) uid,
                .queued_usec = queued_usec,
                .overlay = state_file_parse_field(fields[4]),
                .mount_point = state_file_parse_field(fields[5]),
                .path = state_file_parse_field(fields[6]),
        };
        return ret->type >= 0 && ret->overlay && ret->mount_point && ret->path ? 0 : -EBADMSG;
}

typedef struct Load {
        saved_job_func func;
        void *userdata;
        bool has_last;
        uint64_t last_id;
} Load;

static int take_line(char *line, void *userdata) {
        Load *l = userdata;
        SavedJob j;

        if (!l->has_last) {
                l->has_last = true;
                if (strncmp(line, "last ", 5) != 0)
                        return -EBADMSG;
                return state_file_parse_number(line + 5, UINT32_MAX, &l->last_id);
        }
        if (parse_job(line, &j) < 0)
                return -EBADMSG;
        l->func(&j, l->userdata);
        return 0;
}

int state_load(const char *state_dir, saved_job_func func, void *userdata, uint32_t *ret_last_id) {
        Load l = { .func = func, .userdata = userdata };
        int r = state_file_load(state_dir, STATE_FILE_NAME, HEADER, take_line, &l);

        if (r >= 0)
                *ret_last_id = (uint32_t) l.last_id;
        return r;
}
