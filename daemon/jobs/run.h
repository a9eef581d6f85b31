/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A job and the worker that does it: starts the worker, turns its records into the job's state, and decides
 * what the worker's end means. Which job is next is queue.h's, and how the work is done the worker's. A
 * worker that dies is followed by a survey of the overlay (which finishes or cleans up what was begun), then
 * by another attempt, JOB_ATTEMPTS_MAX in all. */
#pragma once

#include "jobs/job.h"
#include "overlays/managed.h"

typedef struct Run Run;

/* Whom runs tell. Every member is set. */
typedef struct RunEvents {
        void (*changed)(Job *j, void *userdata);
        void (*paused)(
                Job *j, void *userdata); /* it is to be tried again later; its attempts count from none */
        void (*finished)(Job *j, void *userdata);
        void (*remounted)(Managed *o, const char *method, uint64_t usec, void *userdata);
        void (*wake)(void *userdata); /* jobs may start now */
} RunEvents;

/* All jobs that have a worker. */
typedef struct Runs {
        Run *first;
        const Host *host;
        const RunEvents *events;
        void *userdata; /* of events */
} Runs;

/* Starts a queued job. Whatever happens it is queued no more afterwards. */
void run_start(Runs *all, Managed *o, Job *j);
/* Asks the worker to stop, or ends a job that has none at once. o: its overlay, NULL if it is not configured
 * any more; as below. */
void run_cancel(Runs *all, Managed *o, Job *j);
/* Ends an unfinished job at once, with or without a worker. Takes the failure. */
void run_abort(Runs *all, Managed *o, Job *j, Failure *failure);
/* Tells a new watcher of o where jobs work. */
void run_pause_all_watches(const Runs *all, const Managed *o);
/* Forgets all, at the end of the daemon. */
void run_free_all(Runs *all);
