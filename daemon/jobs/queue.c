/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Jobs are counted by walking them: there are at most QUEUE_UNFINISHED_MAX + QUEUE_FINISHED_MAX, and no
 * counter can be wrong that does not exist. */
#include "jobs/queue.h"

#include <string.h>
#include <utlist.h>

#include "base/path-util.h"

typedef struct Lane {
        struct Lane *next;
        QueueAdmission admission;
        uint64_t last_start; /* by Queue.n_starts; the smallest is served next */
        char overlay[];
} Lane;

struct Queue {
        Job **jobs; /* in order of arrival, and a NULL */
        size_t n_jobs;
        Lane *lanes;
        uint64_t n_starts;
};

Queue *queue_new(void) {
        _cleanup_(queue_freep) Queue *q = calloc(1, sizeof(Queue));

        if (q)
                q->jobs = calloc(1, sizeof(Job *));
        return q && q->jobs ? TAKE_PTR(q) : NULL;
}

Queue *queue_free(Queue *q) {
        if (!q)
                return NULL;
        for (size_t i = 0; i < q->n_jobs; i++)
                (void) job_free(q->jobs[i]);
        while (q->lanes)
                queue_remove_lane(q, q->lanes->overlay);
        free(q->jobs);
        free(q);
        return NULL;
}

int queue_add(Queue *q, Job *j) {
        if (!ARRAY_GROW(q->jobs, q->n_jobs + 1))
                return -ENOMEM;
        q->jobs[q->n_jobs++] = j;
        q->jobs[q->n_jobs] = NULL;
        return 0;
}

Job *queue_find(const Queue *q, uint32_t id) {
        QUEUE_FOREACH (j, q)
                if ((*j)->id == id)
                        return *j;
        return NULL;
}

Job *const *queue_jobs(const Queue *q) {
        return q->jobs;
}

/* Those of an overlay (NULL: of all) of which it is true. */
static unsigned queue_count(const Queue *q, const char *overlay, bool (*is)(const Job *j)) {
        unsigned n = 0;

        QUEUE_FOREACH (j, q)
                n += (!overlay || strcmp((*j)->overlay, overlay) == 0) && is(*j);
        return n;
}

static bool job_is_unfinished(const Job *j) {
        return !job_state_is_final(j->state);
}

static bool job_is_running(const Job *j) {
        return j->state != JOB_QUEUED && job_is_unfinished(j);
}

static bool job_is_running_automatic(const Job *j) {
        return j->is_automatic && job_is_running(j);
}

static bool job_is_unfinished_automatic(const Job *j) {
        return j->is_automatic && job_is_unfinished(j);
}

static bool job_is_unfinished_remount(const Job *j) {
        return j->type == JOB_REMOUNT && job_is_unfinished(j);
}

unsigned queue_count_unfinished(const Queue *q) {
        return queue_count(q, NULL, job_is_unfinished);
}

unsigned queue_count_unfinished_of(const Queue *q, uid_t uid) {
        unsigned n = 0;

        QUEUE_FOREACH (j, q)
                n += (*j)->options.uid == uid && job_is_unfinished(*j);
        return n;
}

bool queue_is_at_work(const Queue *q, const char *overlay) {
        return queue_count(q, overlay, job_is_running) > 0;
}

unsigned queue_count_running(const Queue *q) {
        return queue_count(q, NULL, job_is_running);
}

unsigned queue_count_automatic(const Queue *q, const char *overlay) {
        return queue_count(q, overlay, job_is_unfinished_automatic);
}

bool queue_has_remount(const Queue *q, const char *overlay) {
        return queue_count(q, overlay, job_is_unfinished_remount) > 0;
}

static bool job_is_swap(const Job *j) {
        return j->type == JOB_REMOUNT && j->options.remount == REMOUNT_SWAP;
}

/* A swap that waits for those whom it would cut apart has not begun, and may wait for days. When they are
 * gone it goes back to the queue, at the place it had. */
static bool job_stands_aside(const Job *j) {
        return job_is_swap(j) && j->state == JOB_WAITING;
}

/* Those behind it wait with it. */
static bool job_stands_behind(const Queue *q, const Job *j) {
        return job_is_swap(j) && j->state == JOB_QUEUED && queue_count(q, j->overlay, job_stands_aside) > 0;
}

/* Nor do those take anybody's turn that wait for somebody to leave a directory: that may take days, too. */
static bool job_takes_turn(const Job *j) {
        return job_is_running(j) && !job_stands_aside(j) && !j->wait_reason;
}

static Lane *lane_find(const Queue *q, const char *overlay) {
        Lane *l = q->lanes;

        while (l && strcmp(l->overlay, overlay) != 0)
                l = l->next;
        return l;
}

int queue_admit(Queue *q, const char *overlay, QueueAdmission admission) {
        Lane *l = lane_find(q, overlay);

        if (!l) {
                l = calloc(1, sizeof(Lane) + strlen(overlay) + 1);
                if (!l)
                        return -ENOMEM;
                strcpy(l->overlay, overlay);
                LL_PREPEND(q->lanes, l);
        }
        l->admission = admission;
        return 0;
}

void queue_remove_lane(Queue *q, const char *overlay) {
        Lane *l = lane_find(q, overlay);

        if (!l)
                return;
        LL_DELETE(q->lanes, l);
        free(l);
}

/* Whether job number a is to be started before job number b: what somebody waits for, then what is hotter.
 */
static bool is_before(const Queue *q, size_t a, size_t b) {
        const Job *x = q->jobs[a], *y = q->jobs[b];

        if (x->is_automatic != y->is_automatic)
                return y->is_automatic;
        if (x->is_automatic && x->heat != y->heat)
                return x->heat > y->heat;
        return a < b;
}

static bool job_is_ready(const Job *j) {
        return j->state == JOB_QUEUED && j->not_before_usec == 0;
}

/* What is asked for later is to win: an undo must not be followed by the finalize that was put off before
 * it. Who only asks, or repairs what holds the other one up, is let through. */
static bool job_keeps_order(const Job *j) {
        return !j->is_automatic && !j->options.is_dry_run &&
                (j->type == JOB_FINALIZE || j->type == JOB_UNFINALIZE || j->type == JOB_REFRESH ||
                 j->type == JOB_PRUNE);
}

static bool job_is_held(const Job *j) {
        return j->not_before_usec > 0 || j->is_behind;
}

static bool job_is_behind(const Queue *q, size_t i) {
        if (!job_is_ready(q->jobs[i]) || !job_keeps_order(q->jobs[i]))
                return false;
        for (size_t k = 0; k < i; k++)
                if (job_is_held(q->jobs[k]) && job_keeps_order(q->jobs[k]) &&
                    job_conflicts(q->jobs[i], q->jobs[k]))
                        return true;
        return false;
}

/* In order, as one may be behind another one that is behind. */
static void queue_mark_behind(Queue *q) {
        for (size_t i = 0; i < q->n_jobs; i++)
                q->jobs[i]->is_behind = job_is_behind(q, i);
}

/* Whether job number i has to wait for job number k, which is queued or at work, whatever their paths. */
static bool goes_first(const Queue *q, size_t k, size_t i) {
        const Job *other = q->jobs[k];

        if (other->state != JOB_QUEUED)
                return job_is_running(other);
        return is_before(q, k, i) &&
                (!job_is_held(other) || (job_keeps_order(other) && job_keeps_order(q->jobs[i])));
}

/* Whether the queued job number i may start beside those that run, without overtaking a related one before
 * it. */
static bool job_is_unobstructed(const Queue *q, size_t i) {
        for (size_t k = 0; k < q->n_jobs; k++) {
                const Job *other = q->jobs[k];

                if (!job_is_swap(q->jobs[i]) && (job_stands_aside(other) || job_stands_behind(q, other)))
                        continue;
                if (k != i && goes_first(q, k, i) && job_conflicts(q->jobs[i], other))
                        return false;
        }
        return true;
}

static Job *lane_next(const Queue *q, const Lane *l) {
        bool has_automatic = queue_count(q, l->overlay, job_is_running_automatic) > 0;
        size_t best = SIZE_MAX;

        if ((!l->admission.jobs && !l->admission.remounts) ||
            queue_count(q, l->overlay, job_takes_turn) >= QUEUE_LANE_MAX)
                return NULL;
        for (size_t i = 0; i < q->n_jobs; i++) {
                const Job *j = q->jobs[i];

                if (job_is_ready(j) && (l->admission.jobs || j->type == JOB_REMOUNT) &&
                    strcmp(j->overlay, l->overlay) == 0 &&
                    !(j->is_automatic && (has_automatic || !l->admission.automatic)) &&
                    (best == SIZE_MAX || is_before(q, i, best)) && job_is_unobstructed(q, i))
                        best = i;
        }
        return best == SIZE_MAX ? NULL : q->jobs[best];
}

Job *queue_next(Queue *q) {
        Lane *best_lane = NULL;
        Job *best = NULL;

        if (queue_count(q, NULL, job_takes_turn) >= QUEUE_RUNNING_MAX)
                return NULL;
        queue_mark_behind(q);
        for (Lane *l = q->lanes; l; l = l->next) {
                Job *j;

                if (best_lane && l->last_start > best_lane->last_start)
                        continue;
                j = lane_next(q, l);
                if (!j || (best && l->last_start == best_lane->last_start && j->id > best->id))
                        continue;
                best = j;
                best_lane = l;
        }
        if (best_lane)
                best_lane->last_start = ++q->n_starts;
        return best;
}

Job *queue_find_job_at(const Queue *q, const char *overlay, const char *path) {
        QUEUE_FOREACH (j, q)
                if (job_is_unfinished(*j) && strcmp((*j)->overlay, overlay) == 0 &&
                    path_startswith(path, (*j)->path))
                        return *j;
        return NULL;
}

Job *queue_find_equal(
        const Queue *q, JobType type, const char *overlay, const char *path, const JobOptions *options) {
        for (size_t i = q->n_jobs; i > 0; i--) {
                Job *j = q->jobs[i - 1];

                if (job_state_is_final(j->state) || strcmp(j->overlay, overlay) != 0 ||
                    !(path_startswith(j->path, path) || path_startswith(path, j->path)))
                        continue;
                if (j->type != type)
                        return NULL;
                if (j->state == JOB_QUEUED && strcmp(j->path, path) == 0 &&
                    (j->is_automatic || j->options.uid == options->uid) &&
                    job_options_equal(&j->options, options))
                        return j;
        }
        return NULL;
}

Job *queue_find_automatic_below(const Queue *q, const char *overlay, const char *path) {
        QUEUE_FOREACH (j, q)
                if ((*j)->is_automatic && (*j)->state == JOB_QUEUED && strcmp((*j)->overlay, overlay) == 0 &&
                    path_startswith((*j)->path, path))
                        return *j;
        return NULL;
}

uint64_t queue_next_release(const Queue *q) {
        uint64_t first = USEC_INFINITY;

        QUEUE_FOREACH (j, q)
                if ((*j)->state == JOB_QUEUED && (*j)->not_before_usec > 0 && (*j)->not_before_usec < first)
                        first = (*j)->not_before_usec;
        return first;
}

Job *queue_release(Queue *q, uint64_t now_usec) {
        QUEUE_FOREACH (j, q)
                if ((*j)->not_before_usec > 0 && (*j)->not_before_usec <= now_usec) {
                        (*j)->not_before_usec = 0;
                        return *j;
                }
        return NULL;
}

void queue_trim_plans(Queue *q) {
        unsigned n = 0;

        for (size_t i = q->n_jobs; i > 0; i--) {
                Job *j = q->jobs[i - 1];

                if (job_state_is_final(j->state) && j->n_steps > 0 && ++n > QUEUE_PLANS_MAX)
                        job_clear_steps(j);
        }
}

Job *queue_expire(Queue *q) {
        size_t n_finished = 0, oldest = 0;
        Job *expired;

        for (size_t i = 0; i < q->n_jobs; i++) {
                Job *j = q->jobs[i];

                if (!job_state_is_final(j->state))
                        continue;
                if (n_finished++ == 0 || j->finished_usec < q->jobs[oldest]->finished_usec)
                        oldest = i;
        }
        if (n_finished <= QUEUE_FINISHED_MAX)
                return NULL;
        expired = q->jobs[oldest];
        memmove(q->jobs + oldest, q->jobs + oldest + 1, (q->n_jobs-- - oldest) * sizeof(Job *));
        return expired;
}
