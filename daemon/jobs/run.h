/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A job and the worker that does it: starts it, turns its records into the job's state, and decides what the
 * worker's end means. A worker that dies is followed by a survey of the overlay (which finishes or cleans up
 * what was begun), then by another attempt, JOB_ATTEMPTS_MAX in all. */
#pragma once

#include "jobs/job.h"

typedef struct Manager Manager;
typedef struct Managed Managed;
typedef struct Run Run;

/* Starts a queued job. Whatever happens it is queued no more afterwards. */
void run_start(Manager *m, Managed *o, Job *j);
/* Asks the worker to stop, or ends a job that has none at once. */
void run_cancel(Manager *m, Job *j);
/* Ends an unfinished job at once, with or without a worker. Takes the failure. */
void run_abort(Manager *m, Job *j, Failure *failure);
/* Tells a new watcher where jobs work. */
void run_let_all_rest(const Managed *o);
/* Forgets all, at the end of the daemon. */
void run_free_all(Manager *m);
