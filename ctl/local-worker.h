/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A worker without a daemon: what the verbs need that work on an overlay no daemon knows. It speaks the
 * daemon's part of base/wire.h and knows no verb. A worker that does not say its result has failed,
 * whatever its exit status is; what it had begun, the next one puts in order. */
#pragma once

#include <sys/types.h>

#include "base/wire.h"

/* When it has given its result, or cannot be asked: */
typedef enum LocalWorkerEnd {
        LOCAL_WORKER_STOP,   /* it is told to end, and waited for */
        LOCAL_WORKER_LEAVE,  /* the same, but not for long: what one of its threads still asks of a lower
                              * layer  that hangs keeps it from ending */
        LOCAL_WORKER_FINISH, /* it is waited for: there is something left to do that nobody sees */
} LocalWorkerEnd;

/* Called for each record, the result included; a negative return gives up. */
typedef int (*local_worker_func)(const WireRecord *r, void *userdata);

/* Starts a worker ($OVLFIND_WORKER, else the installed one), asks it, and hands on what it says. Takes the
 * request. Blocks until the worker has ended. 0, or a negative errno and *reterr: what its result says, or
 * why it could not be asked. */
int local_worker_run(
        WireRequest *q, LocalWorkerEnd end, local_worker_func func, void *userdata, Failure *reterr);
