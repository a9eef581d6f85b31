/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Work of one job that a pool does: the first failure of any thread stops all of them, as a cancel does, and
 * whoever waits for them tells how far they are. Threads that hang in the kernel after a cancel are given
 * up: what they use is never freed, and the process leaves without them. */
#pragma once

#include <pthread.h>

#include "core/context/context.h"
#include "core/context/pool.h"
#include "core/context/result.h"

typedef struct Batch {
        Context *context;
        Pool *pool;           /* NULL: not begun */
        pthread_mutex_t lock; /* the failure; for what its tasks share, too */
        Failure failure;      /* the first one of any thread */
        atomic_bool has_failed;
        atomic_ullong n_done, n_total; /* for progress; total 0: not known */
} Batch;

void batch_init(Batch *b, Context *context);
/* Makes the pool, unless it is there. */
int batch_begin(Batch *b);
void batch_end(Batch *b); /* not while threads hang */
void batch_done(Batch *b);
/* Takes f, and has the others stop at their next step; the second leaves them at work. Thread-safe. */
void batch_fail(Batch *b, Failure *f);
void batch_note(Batch *b, Failure *f);
bool batch_should_stop(const Batch *b);
void batch_progress(const Batch *b, JobState state);
/* Until no task is left: 0, -ECANCELED if it should stop, RESULT_HUNG: canceled, and threads hang. */
int batch_wait(Batch *b, JobState state);
/* Moves the failure to reterr, and returns its error; 0: there was none. */
int batch_outcome(Batch *b, Failure *reterr);
/* What comes next begins without one. */
void batch_forget_failure(Batch *b);
