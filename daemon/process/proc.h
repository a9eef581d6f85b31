/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A worker process as the event loop sees it: started, told what to do, its records read, its end noticed,
 * whatever that takes. It knows no job, and of records only which one is the result. The loop waits only for
 * the start of one. A process that does not even die of SIGKILL, because the kernel does not let go of it,
 * is abandoned: its owner is told, and the process is reaped whenever it ends. */
#pragma once

#include <systemd/sd-event.h>

#include "base/wire.h"

#define PROC_CANCEL_USEC                                                                                    \
        (10 * USEC_PER_SEC)               /* from asking to SIGKILL: one step of a job over a slow network */
#define PROC_KILL_USEC (5 * USEC_PER_SEC) /* from SIGKILL to giving up */

typedef struct Proc Proc;
typedef struct ProcPool ProcPool;

typedef enum ProcEnd {
        PROC_EXITED,    /* status: exit status */
        PROC_SIGNALED,  /* status: signal */
        PROC_UNMOUNTED, /* it has left because the overlay was unmounted */
        PROC_ABANDONED, /* it lives on in the kernel */
} ProcEnd;

typedef struct ProcHandler {
        void (*on_record)(Proc *p, const WireRecord *r, void *userdata);
        /* Once, after the last record. The owner forgets p; the pool frees it. */
        void (*on_end)(Proc *p, ProcEnd end, int status, void *userdata);
} ProcHandler;

/* What the owner of the pool hears of; each may be NULL. */
typedef struct ProcPoolHandler {
        /* An abandoned process has ended after all. */
        void (*on_reaped)(const char *tag, void *userdata);
        /* One begins to work at a path of an overlay, before it is started; or it has given its result, or
         * ended. Not of sources of heat. */
        void (*on_place)(const char *tag, const char *path, bool begins, void *userdata);
        /* The last process that is not abandoned has ended. */
        void (*on_idle)(void *userdata);
} ProcPoolHandler;

/* All workers of a daemon. executable is copied; handler and userdata are borrowed. Needs SIGCHLD blocked,
 * as sd_event_add_child() does. */
int proc_pool_new(
        sd_event *event,
        const char *executable,
        const ProcPoolHandler *handler,
        void *userdata,
        ProcPool **ret);
/* Kills what is left, without waiting and without telling anybody. */
ProcPool *proc_pool_free(ProcPool *pool);
DEFINE_CLEANUP(ProcPool *, proc_pool_free);
/* Asks all to stop by SIGTERM; SIGKILL after PROC_CANCEL_USEC. on_idle tells when there is nothing to wait
 * for any more. */
void proc_pool_terminate(ProcPool *pool);
bool proc_pool_is_idle(const ProcPool *pool) _pure_;
/* Of a process of no overlay alone: no overlay has such a name. */
#define PROC_TAG_OF_ALL '*'
/* Abandoned processes with this tag that still are there. */
unsigned proc_pool_count_stuck(const ProcPool *pool, const char *tag) _pure_;

/* Calls func with where processes with this tag are at work, see on_place. */
void proc_pool_foreach_place(
        const ProcPool *pool,
        const char *tag,
        void (*func)(const char *path, void *userdata),
        void *userdata);

/* Starts a worker with the request waiting for it; only the socket, standard error and an empty signal mask
 * are inherited. tag (copied) says whom it works for. handler is borrowed. Blocks until the exec. Fails
 * with the error of the request, too. */
int proc_spawn(
        ProcPool *pool,
        const char *tag,
        const WireRequest *request,
        const ProcHandler *handler,
        void *userdata,
        Proc **ret);
/* Somebody else takes over. */
void proc_set_handler(Proc *p, const ProcHandler *handler, void *userdata);
/* Asks it to stop, and sees to it that it does: SIGKILL after PROC_CANCEL_USEC. */
void proc_cancel(Proc *p);
/* What was to be stopped is over; the process may live on. */
void proc_forget_cancel(Proc *p);
void proc_kill(Proc *p);
/* Sends a packet to one that listens for more than "cancel", later if there is no room for it now. Packets
 * keep their order. -EAGAIN: too many of them wait. */
int proc_tell(Proc *p, const char *packet);
bool proc_is_killed(const Proc *p) _pure_;
/* Nobody listens to it any more: it is asked to end (end of file and SIGTERM), and sees SIGKILL after
 * PROC_CANCEL_USEC. NULL is fine. */
Proc *proc_free(Proc *p);
