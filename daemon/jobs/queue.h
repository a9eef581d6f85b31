/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* All jobs, in the order they came in, and which one is next: at most QUEUE_RUNNING_MAX at once,
 * QUEUE_LANE_MAX of them on one overlay, overlays taking turns; jobs with related paths of an overlay one
 * after the other, in order. A swap that waits is not counted, and holds back other swaps only. A job that
 * is put off holds back nobody; but if somebody asked for it, what is asked for later to change a related
 * path waits for it. Pure: no process, loop or clock. */
#pragma once

#include "jobs/job.h"

#define QUEUE_RUNNING_MAX 8       /* workers share the machine with those they serve */
#define QUEUE_LANE_MAX 2          /* one that waits for quiet must not hold up all others of its overlay */
#define QUEUE_UNFINISHED_MAX 1024 /* what one client can pile up before it is told to wait */
#define QUEUE_UNFINISHED_PER_USER_MAX 64 /* the same for one who is not root */
#define QUEUE_FINISHED_MAX 64            /* stay readable */
#define QUEUE_PLANS_MAX 8                /* finished dry runs that keep their plan, which can be long */

typedef struct Queue Queue;

Queue *queue_new(void);
Queue *queue_free(Queue *q);
DEFINE_CLEANUP(Queue *, queue_free);

/* Takes the job. -ENOMEM leaves it with the caller. */
int queue_add(Queue *q, Job *j);
Job *queue_find(const Queue *q, uint32_t id);
/* All jobs in order of their numbers, up to a NULL; until one is added or removed. */
Job *const *queue_jobs(const Queue *q) _pure_;
#define QUEUE_FOREACH(j, q) for (Job *const *j = queue_jobs(q); *j; j++)
/* Jobs that are not finished. */
unsigned queue_count_unfinished(const Queue *q) _pure_;
unsigned queue_count_unfinished_of(const Queue *q, uid_t uid) _pure_;
/* Whether a job of this overlay is running. */
bool queue_is_at_work(const Queue *q, const char *overlay) _pure_;
unsigned queue_count_running(const Queue *q) _pure_;

/* Which jobs of an overlay may start now: none until this is said. */
typedef struct QueueAdmission {
        bool jobs;
        bool remounts;  /* even without the others */
        bool automatic; /* as well as the others */
} QueueAdmission;

int queue_admit(Queue *q, const char *overlay, QueueAdmission admission); /* 0 or -ENOMEM */
void queue_remove_lane(Queue *q, const char *overlay);
/* The job to start now, or NULL. Manual ones come first, then hotter ones,
 * which go one at a time on an overlay: there is no hurry. The caller starts it by
 * job_set_state(), or ends it. */
Job *queue_next(Queue *q);
/* The unfinished job at work on path or on a directory above it; NULL if none. */
Job *queue_find_job_at(const Queue *q, const char *overlay, const char *path);
/* A job that has not begun and does what this one would: of the same user, who may cancel it, or of nobody.
 * NULL if there is none, or if something else is to be done at the path in between. One that has begun may
 * be past what has changed since. */
Job *queue_find_equal(
        const Queue *q, JobType type, const char *overlay, const char *path, const JobOptions *options);
/* Whether there is an unfinished remount of the overlay. */
bool queue_has_remount(const Queue *q, const char *overlay) _pure_;
/* Automatic jobs that are not finished. */
unsigned queue_count_automatic(const Queue *q, const char *overlay) _pure_;
/* An automatic job that has not been started, for a directory below path; NULL if none. */
Job *queue_find_automatic_below(const Queue *q, const char *overlay, const char *path);
/* When the first of the jobs that must not start before some time may; USEC_INFINITY if there is none. */
uint64_t queue_next_release(const Queue *q) _pure_;
/* A job whose time has come, and that may start now; NULL when there is no other. */
Job *queue_release(Queue *q, uint64_t now_usec);
/* Drops the plans of all finished jobs but the last QUEUE_PLANS_MAX that have one. */
void queue_trim_plans(Queue *q);
/* Takes the oldest finished job out when there are more than QUEUE_FINISHED_MAX; the caller frees it. NULL
 * otherwise. */
Job *queue_expire(Queue *q);
