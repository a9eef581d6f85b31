/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A pool of threads for work that waits: each task asks a slow lower for something, so many are in flight
 * on few cores. Tasks may submit tasks. Their order is not that of submission: the latest goes first, which
 * keeps the queue of a tree short. No task is cut short; a pool whose threads hang in the kernel cannot be
 * freed, and whoever has it leaves the process instead. */
#pragma once

#include "base/macro.h"

#define POOL_THREADS_MAX 256u

typedef struct Pool Pool;
/* thread: 0 to n_threads - 1, for what each thread keeps for itself. */
typedef void (*pool_func)(void *task, unsigned thread);

/* n_threads: 1 to POOL_THREADS_MAX. */
int pool_new(unsigned n_threads, Pool **ret);
/* Waits for the running tasks, drops queued ones. Not to be called while a task hangs in the kernel: leave
 * by _exit(). */
Pool *pool_free(Pool *p);
DEFINE_CLEANUP(Pool *, pool_free);

/* At most n tasks run at once from now on; 1 to n_threads. */
void pool_set_limit(Pool *p, unsigned n);
/* Newest first: a walk goes deep before it goes wide, which keeps the queue short. -ENOMEM. */
int pool_submit(Pool *p, pool_func func, void *task);
/* Waits until no task is queued or running, at most timeout_msec (-1: for ever). 1 idle, 0 time is up. */
int pool_wait(Pool *p, int timeout_msec);
