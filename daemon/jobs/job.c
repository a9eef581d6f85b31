/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/job.h"

#include <string.h>

#include "base/clock.h"
#include "base/path-util.h"
#include "base/strv.h"

#define BIT(state) (1U << (state))
#define FINAL (BIT(JOB_DONE) | BIT(JOB_FAILED) | BIT(JOB_CANCELED))

static const unsigned followers[_JOB_STATE_MAX] = {
        [JOB_QUEUED] = BIT(JOB_RUNNING) | BIT(JOB_FAILED) | BIT(JOB_CANCELED),
        [JOB_RUNNING] = BIT(JOB_APPLYING) | BIT(JOB_WAITING) | BIT(JOB_QUEUED) | FINAL,
        [JOB_APPLYING] = BIT(JOB_RUNNING) | BIT(JOB_WAITING) | BIT(JOB_QUEUED) | FINAL,
        [JOB_WAITING] = BIT(JOB_RUNNING) | BIT(JOB_APPLYING) | BIT(JOB_QUEUED) | FINAL,
};

int job_new(
        uint32_t id,
        JobType type,
        const char *overlay,
        const char *mount_point,
        const char *path,
        Job **ret) {
        _cleanup_(job_freep) Job *j = calloc(1, sizeof(Job));

        if (!j)
                return -ENOMEM;
        *j = (Job){ .id = id, .type = type, .state = JOB_QUEUED };
        j->overlay = strdup(overlay);
        j->mount_point = strdup(mount_point);
        j->path = strdup(path);
        if (!j->overlay || !j->mount_point || !j->path)
                return -ENOMEM;
        *ret = TAKE_PTR(j);
        return 0;
}

int job_set_options(Job *j, const JobOptions *options) {
        if (str_replace(&j->set, options->set) < 0)
                return -ENOMEM;
        j->options = *options;
        j->options.set = j->set;
        return 0;
}

static void job_step_done(JobStep *s) {
        free(s->name);
        free(s->path);
        free(s->text);
        free(s->advice);
}

void job_clear_steps(Job *j) {
        for (size_t i = 0; i < j->n_steps; i++)
                job_step_done(j->steps + i);
        free(j->steps);
        j->steps = NULL;
        j->n_steps = j->n_steps_seen = j->step_bytes = 0;
}

Job *job_free(Job *j) {
        if (!j)
                return NULL;
        job_clear_steps(j);
        j->notes = strv_free(j->notes);
        failure_done(&j->failure);
        free(j->overlay);
        free(j->mount_point);
        free(j->path);
        free(j->pause_reason);
        free(j->doing);
        free(j->wait_reason);
        free(j->set);
        free(j);
        return NULL;
}

bool job_state_may_follow(JobState from, JobState to) {
        return from >= 0 && from < _JOB_STATE_MAX && to >= 0 && to < _JOB_STATE_MAX &&
                (followers[from] & BIT(to));
}

/* A new attempt starts from nothing. */
static void job_reset_attempt(Job *j) {
        j->entries_done = j->entries_total = j->bytes_copied = j->n_errors = j->n_finalized = 0;
        job_clear_steps(j);
        (void) str_replace(&j->doing, NULL);
        (void) str_replace(&j->wait_reason, NULL);
}

int job_set_state(Job *j, JobState state, uint64_t now_usec) {
        if (j->state == state)
                return 0;
        if (!job_state_may_follow(j->state, state))
                return -EPERM;
        if (j->state == JOB_QUEUED && state == JOB_RUNNING) {
                j->n_attempts++;
                if (j->started_usec == 0)
                        j->started_usec = now_usec;
        }
        if (state == JOB_QUEUED)
                job_reset_attempt(j);
        if (job_state_is_final(state)) {
                j->finished_usec = now_usec;
                j->not_before_usec = 0;
        }
        j->state = state;
        return 1;
}

int job_finish(Job *j, Failure *failure, uint64_t now_usec) {
        JobState state = failure->kind == FAILURE_NONE ? JOB_DONE
                : failure->kind == FAILURE_CANCELED    ? JOB_CANCELED
                                                       : JOB_FAILED;
        int r = job_set_state(j, state, now_usec);

        if (r > 0)
                failure_move(&j->failure, failure);
        else
                failure_done(failure);
        return r;
}

void job_take_counters(Job *j, const WireRecord *r) {
        j->entries_done = r->entries_done;
        j->entries_total = r->entries_total;
        j->bytes_copied = r->bytes;
        j->n_errors = r->errors;
        j->pause_usec = r->pause_usec;
}

static int job_fill_step(JobStep *s, const WireRecord *r) {
        *s = (JobStep){
                .name = strdup(r->name),
                .path = strdup(r->path),
                .text = strdup(r->text),
                .advice = strdup(r->lower_path),
                .entries = r->entries_total,
                .inodes = r->entries_done,
                .bytes = r->bytes,
                .is_repaired = r->kind == WIRE_PROBLEM && r->state != 0,
        };
        if (s->name && s->path && s->text && s->advice)
                return 0;
        job_step_done(s);
        return -ENOMEM;
}

int job_add_step(Job *j, const WireRecord *r) {
        size_t bytes = strlen(r->name) + strlen(r->path) + strlen(r->text) + strlen(r->lower_path);

        j->n_steps_seen++;
        if (j->n_steps_seen > j->n_steps + 1 || j->n_steps >= JOB_STEPS_MAX ||
            j->step_bytes + bytes > JOB_STEP_BYTES_MAX)
                return 0;
        if ((j->n_steps & (j->n_steps - 1)) == 0) { /* full at 0, 1, 2, 4, ... */
                JobStep *a = reallocarray(j->steps, j->n_steps > 0 ? j->n_steps * 2 : 1, sizeof(JobStep));

                if (!a)
                        return -ENOMEM;
                j->steps = a;
        }
        if (job_fill_step(j->steps + j->n_steps, r) < 0)
                return -ENOMEM;
        j->n_steps++;
        j->step_bytes += bytes;
        return 0;
}

int job_add_note(Job *j, const char *note) {
        size_t bytes = strlen(note);
        int r;

        j->n_notes_seen++;
        if (j->n_notes_seen > j->n_notes + 1 || j->n_notes >= JOB_NOTES_MAX ||
            j->note_bytes + bytes > JOB_NOTE_BYTES_MAX)
                return 0;
        r = strv_extend(&j->notes, note);
        if (r < 0)
                return r;
        j->n_notes++;
        j->note_bytes += bytes;
        return 0;
}

char *job_path(const Job *j) {
        return path_join(j->mount_point, j->path);
}

bool job_conflicts(const Job *a, const Job *b) {
        return strcmp(a->overlay, b->overlay) == 0 &&
                (path_startswith(a->path, b->path) || path_startswith(b->path, a->path));
}

/* Others answer a question (verify, a dry run), or have done what they could and say so (prune). */
static bool job_can_wait(const Job *j) {
        return !j->options.is_dry_run &&
                (j->type == JOB_FINALIZE || j->type == JOB_UNFINALIZE || j->type == JOB_REFRESH);
}

bool job_may_wait(const Job *j, const Failure *failure) {
        return job_can_wait(j) &&
                (job_is_held_up(j, failure) || failure->kind == FAILURE_LOWER_UNREACHABLE ||
                 failure->error == EIO || failure->error == ESTALE || failure->error == ETIMEDOUT ||
                 (j->needs_survey && failure->kind == FAILURE_BUSY));
}

void job_note_trouble(
        Job *j, uint64_t entries_done, bool has_finished_some, uint64_t begun_usec, uint64_t now_usec) {
        if (j->trouble_usec > 0 && entries_done <= j->trouble_entries && !has_finished_some) {
                if (entries_done > 0)
                        j->trouble_usec += now_usec - begun_usec;
                return;
        }
        j->trouble_usec = now_usec;
        j->trouble_entries = entries_done;
        j->n_pauses = 0;
}

uint64_t job_trouble_duration(const Job *j, uint64_t now_usec) {
        return j->trouble_usec > 0 && now_usec > j->trouble_usec ? now_usec - j->trouble_usec : 0;
}

bool job_is_held_up(const Job *j, const Failure *failure) {
        return job_can_wait(j) && (j->type == JOB_UNFINALIZE || j->type == JOB_REFRESH) &&
                failure->kind == FAILURE_BUSY && failure->error == FAILURE_ERROR_HELD;
}

bool job_is_put_off(const Job *j, const Failure *failure) {
        return job_is_unasked(j) && j->type == JOB_FINALIZE && failure->kind == FAILURE_BUSY &&
                failure->error == FAILURE_ERROR_HELD;
}

uint64_t job_held_pause(const Job *j) {
        return pause_after(j->n_pauses, JOB_HELD_PAUSE_FIRST_USEC, JOB_HELD_PAUSE_LAST_USEC);
}

uint64_t job_next_pause(const Job *j, uint64_t patience_usec, uint64_t now_usec) {
        uint64_t waited = job_trouble_duration(j, now_usec);
        uint64_t left = waited < patience_usec ? patience_usec - waited : 0,
                 pause = pause_after(j->n_pauses, JOB_PAUSE_FIRST_USEC, JOB_PAUSE_LAST_USEC);

        return pause < left ? pause : left;
}

int job_put_off(Job *j, const char *reason, uint64_t not_before_usec) {
        j->not_before_usec = not_before_usec;
        return str_replace(&j->pause_reason, reason);
}

int job_pause(Job *j, const char *reason, uint64_t not_before_usec) {
        (void) job_set_state(j, JOB_QUEUED, /* now_usec= */ 0);
        j->n_pauses++;
        j->n_attempts = 0;
        j->is_stalled = false;
        return job_put_off(j, reason, not_before_usec);
}

const char *job_doing(const Job *j) {
        return j->doing ?: "see whether the lower layers of its overlay answer";
}

JobState job_shown_state(const Job *j) {
        return j->state == JOB_QUEUED && j->not_before_usec > 0 ? JOB_WAITING : j->state;
}

/* As bytes: an option that is added one day counts by itself. */
bool job_options_equal(const JobOptions *a, const JobOptions *b) {
        JobOptions x, y;

        memcpy(&x, a, sizeof(x));
        memcpy(&y, b, sizeof(y));
        x.uid = y.uid = 0;
        x.is_unasked = y.is_unasked = false;
        x.set = y.set = NULL;
        return memcmp(&x, &y, sizeof(x)) == 0 && str_equal(a->set, b->set);
}

bool job_options_are_default(const JobOptions *o) {
        JobOptions defaults;

        memset(&defaults, 0, sizeof(defaults));
        return job_options_equal(o, &defaults);
}

bool job_is_unasked(const Job *j) {
        return j->is_automatic || j->options.is_unasked;
}

bool job_may_retry(const Job *j) {
        return j->n_attempts < JOB_ATTEMPTS_MAX && !j->is_cancel_wanted && !job_state_is_final(j->state);
}
