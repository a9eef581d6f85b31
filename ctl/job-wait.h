/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Waits for jobs that this program started, shows their progress, and passes Ctrl-C on as a cancel; a
 * second one leaves the jobs to themselves. It starts no job and prints no result. Make it before the jobs:
 * it subscribes to the signals first, so that a job that ends at once is not missed. */
#pragma once

#include "ctl/ctl.h"

typedef struct JobWait JobWait;

typedef struct WaitedJob {
        char *object;
        const char *argument;   /* what the user typed; borrowed */
        Record record;          /* properties as of last seen; complete when is_finished */
        uint64_t n_directories; /* at or below its path, that changed into the state it works towards */
        bool is_finished;
        char *told; /* the reason for a wait that has been printed */
} WaitedJob;

int job_wait_new(Ctl *c, JobWait **ret);
JobWait *job_wait_free(JobWait *w);
DEFINE_CLEANUP(JobWait *, job_wait_free);

int job_wait_add(JobWait *w, const char *object, const char *argument, const char *path);

/* Returns 0 when all jobs are finished, -ECONNRESET when the daemon or the bus went away, -EINTR when the
 * user left the jobs to themselves with a second Ctrl-C, -ECANCELED when the first one took the connection
 * to another host along, and the jobs have been canceled by a new one. */
int job_wait_run(JobWait *w);

/* Reads the job's properties anew. */
int job_wait_fetch(JobWait *w, WaitedJob *j);
size_t job_wait_count(const JobWait *w) _pure_;
WaitedJob *job_wait_get(JobWait *w, size_t i) _pure_;
