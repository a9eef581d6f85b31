/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/context/pool.h"

#include <pthread.h>

#include "base/clock.h"
#include "base/lock.h"

/* Tasks open, list and link: shallow stacks. 32 threads must not cost 256 MiB of address space. */
#define THREAD_STACK_SIZE (256 * 1024)

typedef struct Task {
        struct Task *next;
        pool_func func;
        void *argument;
} Task;

typedef struct Thread {
        Pool *pool;
        unsigned index;
        pthread_t id;
} Thread;

struct Pool {
        pthread_mutex_t lock;
        pthread_cond_t work, idle;
        Task *top;
        unsigned n_pending; /* queued and running */
        unsigned n_running, limit;
        bool is_ending;
        unsigned n_threads;
        Thread threads[];
};

static Task *take_task(Pool *p) {
        Task *t;

        while ((!p->top || p->n_running >= p->limit) && !p->is_ending)
                (void) pthread_cond_wait(&p->work, &p->lock);
        if (p->is_ending)
                return NULL;
        t = p->top;
        p->top = t->next;
        p->n_running++;
        return t;
}

static void *thread_main(void *userdata) {
        Thread *self = userdata;
        Pool *p = self->pool;
        Task *t;

        (void) pthread_mutex_lock(&p->lock);
        while ((t = take_task(p))) {
                (void) pthread_mutex_unlock(&p->lock);
                t->func(t->argument, self->index);
                free(t);
                (void) pthread_mutex_lock(&p->lock);
                p->n_running--;
                if (p->top)
                        (void) pthread_cond_signal(&p->work);
                if (--p->n_pending == 0)
                        (void) pthread_cond_broadcast(&p->idle);
        }
        (void) pthread_mutex_unlock(&p->lock);
        return NULL;
}

static int start_threads(Pool *p, unsigned n) {
        pthread_attr_t attr;
        int r = pthread_attr_init(&attr);

        if (r != 0)
                return -r;
        (void) pthread_attr_setstacksize(&attr, THREAD_STACK_SIZE);
        for (; p->n_threads < n; p->n_threads++) {
                Thread *t = p->threads + p->n_threads;

                *t = (Thread){ .pool = p, .index = p->n_threads };
                r = pthread_create(&t->id, &attr, thread_main, t);
                if (r != 0)
                        break;
        }
        (void) pthread_attr_destroy(&attr);
        return p->n_threads > 0 ? 0 : -r; /* fewer threads than asked for are slower, not wrong */
}

int pool_new(unsigned n_threads, Pool **ret) {
        _cleanup_(pool_freep) Pool *p = NULL;
        pthread_condattr_t attr;
        int r;

        if (n_threads < 1 || n_threads > POOL_THREADS_MAX)
                return -EINVAL;
        p = calloc(1, sizeof(Pool) + n_threads * sizeof(Thread));
        if (!p)
                return -ENOMEM;
        p->limit = n_threads;
        (void) pthread_condattr_init(&attr);
        (void) pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        (void) pthread_mutex_init(&p->lock, NULL);
        (void) pthread_cond_init(&p->work, NULL);
        (void) pthread_cond_init(&p->idle, &attr);
        (void) pthread_condattr_destroy(&attr);
        r = start_threads(p, n_threads);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(p);
        return 0;
}

Pool *pool_free(Pool *p) {
        if (!p)
                return NULL;
        (void) pthread_mutex_lock(&p->lock);
        p->is_ending = true;
        (void) pthread_cond_broadcast(&p->work);
        (void) pthread_mutex_unlock(&p->lock);
        for (unsigned i = 0; i < p->n_threads; i++)
                (void) pthread_join(p->threads[i].id, NULL);
        for (Task *t; (t = p->top);) {
                p->top = t->next;
                free(t);
        }
        (void) pthread_cond_destroy(&p->work);
        (void) pthread_cond_destroy(&p->idle);
        (void) pthread_mutex_destroy(&p->lock);
        free(p);
        return NULL;
}

void pool_set_limit(Pool *p, unsigned n) {
        LOCKED(&p->lock);

        p->limit = n < 1 ? 1 : n;
        (void) pthread_cond_broadcast(&p->work);
}

int pool_submit(Pool *p, pool_func func, void *task) {
        Task *t = malloc(sizeof(Task));

        if (!t)
                return -ENOMEM;
        *t = (Task){ .func = func, .argument = task };
        (void) pthread_mutex_lock(&p->lock);
        t->next = p->top;
        p->top = t;
        p->n_pending++;
        (void) pthread_cond_signal(&p->work);
        (void) pthread_mutex_unlock(&p->lock);
        return 0;
}

int pool_wait(Pool *p, int timeout_msec) {
        struct timespec until =
                clock_deadline(timeout_msec < 0 ? 0 : (uint64_t) timeout_msec * USEC_PER_MSEC);
        int r = 0;

        LOCKED(&p->lock);
        while (p->n_pending > 0 && r == 0)
                r = timeout_msec < 0 ? pthread_cond_wait(&p->idle, &p->lock)
                                     : pthread_cond_timedwait(&p->idle, &p->lock, &until);
        r = p->n_pending == 0;
        return r;
}
