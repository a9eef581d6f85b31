/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A worker without a daemon: what the verbs need that work on an overlay no daemon knows. It speaks the
 * daemon's part of base/wire.h and knows no verb. A worker that does not say its result has failed,
 * whatever its exit status is; what it had begun, the next one puts in order. */
#pragma once

#include <sys/types.h>

#include "base/wire.h"

const char *worker_path(void);
/* Starts the worker with the other end of *ret_fd as its WORKER_FD. */
int worker_spawn(int *ret_fd, pid_t *ret_pid);
void worker_wait(pid_t pid);
/* The same for one that has answered, but not for long: what one of its threads still asks of a lower layer
 * that hangs keeps it from ending. */
void worker_leave(pid_t pid);
/* What the final record says: 0, or the failure. */
int worker_result_to_failure(const WireRecord *wire, Failure *reterr);
/* A record that is not the result; a negative return gives up. */
typedef int (*local_worker_func)(const WireRecord *r, void *userdata);
/* Starts a worker, asks it, and hands on what it says. Blocks until it has ended. 0, or a negative errno and
 * *reterr: what its result says, or why it could not be asked. */
int local_worker_run(const WireRequest *q, local_worker_func func, void *userdata, Failure *reterr);
