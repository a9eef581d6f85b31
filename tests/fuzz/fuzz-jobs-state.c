/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The list of unfinished jobs of any bytes: refused and moved aside, or jobs that are saved and read as the
 * same. */
#include <string.h>
#include <unistd.h>

#include "base/fs-util.h"
#include "fuzz.h"
#include "jobs/state.h"
#include "service/state-file.h"

typedef struct Loaded {
        Queue *queue;
        unsigned n;
        char *list; /* what was told, one a line */
        size_t size;
        FILE *f;
} Loaded;

static void take(const SavedJob *s, void *userdata) {
        JobOptions options = { .uid = s->uid, .is_forced = !s->can_go_on };
        Loaded *l = userdata;
        Job *j;

        HOLDS(s->overlay && s->mount_point && s->path && s->type >= 0 && s->type < _JOB_TYPE_MAX);
        if (queue_find(l->queue, s->id))
                return;
        HOLDS(job_new(s->id, s->type, s->overlay, s->mount_point, s->path, &j) == 0);
        HOLDS(job_set_options(j, &options) == 0);
        j->n_attempts = s->n_attempts;
        j->queued_usec = s->queued_usec;
        HOLDS(queue_add(l->queue, j) == 0);
        (void) fprintf(
                l->f, "%u %d %u %d %u %llu %s|%s|%s\n", s->id, s->type, s->n_attempts, s->can_go_on, s->uid,
                (unsigned long long) s->queued_usec, s->overlay, s->mount_point, s->path);
        l->n++;
}

static int load(Loaded *l, uint32_t *ret_last_id) {
        int r;

        *l = (Loaded){ .queue = queue_new() };
        l->f = open_memstream(&l->list, &l->size);
        HOLDS(l->queue && l->f);
        r = state_load(fuzz_dir_path(), take, l, ret_last_id);
        (void) fclose(l->f);
        return r;
}

static void loaded_done(Loaded *l) {
        (void) queue_free(l->queue);
        free(l->list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(loaded_done) Loaded first = { 0 }, second = { 0 };
        uint32_t last_id, again_id;
        int dfd = fuzz_dir(), r;

        fuzz_write(STATE_FILE_NAME, data, size);
        r = load(&first, &last_id);
        HOLDS(r == 0 || r == -EBADMSG);
        HOLDS((faccessat(dfd, STATE_FILE_NAME ".bad", F_OK, 0) == 0) == (r < 0));
        if (r == 0) {
                _cleanup_free_ char *text = state_format(last_id, first.queue);

                HOLDS(text && state_file_replace(fuzz_dir_path(), STATE_FILE_NAME, text) == 0);
                HOLDS(load(&second, &again_id) == 0 && again_id == last_id);
                HOLDS(first.n == second.n);
        }
        return 0;
}
