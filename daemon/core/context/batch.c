/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/context/batch.h"

#include "base/clock.h"
#include "base/lock.h"

/* How long threads may take to come back after a cancel. */
#define CANCEL_PATIENCE_USEC (3 * USEC_PER_SEC)
#define LOOK_MSEC 100

void batch_init(Batch *b, Context *context) {
        b->context = context;
        (void) pthread_mutex_init(&b->lock, NULL);
}

int batch_begin(Batch *b) {
        return b->pool ? 0 : pool_new(b->context->options.n_threads, &b->pool);
}

void batch_end(Batch *b) {
        b->pool = pool_free(b->pool);
}

void batch_done(Batch *b) {
        batch_end(b);
        failure_done(&b->failure);
        (void) pthread_mutex_destroy(&b->lock);
}

void batch_note(Batch *b, Failure *f) {
        LOCKED(&b->lock);

        failure_move(&b->failure, f);
}

void batch_fail(Batch *b, Failure *f) {
        batch_note(b, f);
        atomic_store(&b->has_failed, true);
}

bool batch_should_stop(const Batch *b) {
        return atomic_load(&b->has_failed) || context_is_canceled(b->context);
}

void batch_progress(const Batch *b, JobState state) {
        context_progress(
                b->context, throttle_is_waiting(b->context->throttle) ? JOB_WAITING : state,
                atomic_load(&b->n_done), atomic_load(&b->n_total));
}

int batch_wait(Batch *b, JobState state) {
        uint64_t canceled_usec = 0;

        while (pool_wait(b->pool, LOOK_MSEC) == 0) {
                batch_progress(b, state);
                if (!context_is_canceled(b->context))
                        continue;
                canceled_usec = canceled_usec ?: now_monotonic_usec();
                if (now_monotonic_usec() - canceled_usec > CANCEL_PATIENCE_USEC)
                        return RESULT_HUNG;
        }
        batch_progress(b, state);
        return batch_should_stop(b) ? -ECANCELED : 0;
}

int batch_outcome(Batch *b, Failure *reterr) {
        int error = b->failure.error;

        if (!atomic_load(&b->has_failed))
                return 0;
        failure_move(reterr, &b->failure);
        return error > 0 ? -error : -EIO;
}

void batch_forget_failure(Batch *b) {
        failure_done(&b->failure);
        atomic_store(&b->has_failed, false);
}
