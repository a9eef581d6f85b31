/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "base/wire.h"
#include "core/job/offline.h"
#include "core/job/work.h"
#include "core/remount/remount.h"

/* A worker process and what it was asked for. */
typedef struct Worker {
        WireRequest request;
        Overlay *overlay;
        Offline offline;
        char *name; /* under which records are kept */
        Context context;
        Observer observer; /* handed to the context once it is open */
        Keepers kept;
        RemountResult remounted;
        bool is_survey;
        WorkCounts counts;
        uint64_t started_usec;  /* monotonic */
        WireRecord progress;    /* as it was sent last */
        uint64_t reported_usec; /* when */
        JobState reported_state;
        atomic_bool is_over; /* the result is sent */
        int mounts_fd;       /* the table of mounts; guard.c */
        int mount_fd;        /* of the overlay's mount itself, which makes it busy */
        int guarded_id;      /* of the overlay's mount: the guard goes on while all else is freed */
        dev_t guarded_device;
        atomic_bool is_use;    /* mount_fd is open */
        atomic_bool is_ending; /* it was told to end, or nobody listens any more */
} Worker;

/* request.c. Whether the request has this key with the value 1. */
bool worker_asks_for(const Worker *w, const char *key);
/* Words of a value of the request: an array that ends with NULL and points into *buffer; NULL on out of
 * memory. The caller frees both. */
char **worker_split(const Worker *w, const char *key, char **buffer);
/* Whether it is a source of heat, which listens for itself. */
bool worker_is_source(const Worker *w);
/* sources.c */
int worker_watch(Worker *w, Failure *reterr);
int worker_paths(const Worker *w, Failure *reterr);
int worker_misses(Failure *reterr);
/* guard.c: a thread that ends the process when the overlay is unmounted. */
int guard_start(Worker *w);
/* Somebody asked for this: it cannot be unmounted, as long as it is not let go. */
int guard_use(Worker *w);
void guard_let_go(Worker *w);
/* verb-release.c */
/* Compares, then verifies. */
int worker_compare(Worker *w, const char *path, const WorkHooks *hooks, Failure *reterr);
int worker_prune(Worker *w, const char *path, const WorkHooks *hooks, Failure *reterr);
int worker_refresh(Worker *w, const char *path, const WorkHooks *hooks, Failure *reterr);
/* verb-reset.c: what precedes the undo, while the overlay is mounted, and what follows; unmounts it. */
int worker_prepare_reset(Worker *w, const char *path, const WorkHooks *hooks, Failure *reterr);
int worker_reset(Worker *w, const char *path, Failure *reterr);
/* verb-verify.c */
int worker_verify(Worker *w, const char *path, Failure *reterr);
int worker_verify_offline(Worker *w, const char *path, Failure *reterr);

/* Runs the request's verb, sends what there is to tell but the result. */
int worker_run_verb(Worker *w, Failure *reterr);
