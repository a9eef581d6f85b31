/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Questions about an overlay that a worker answers while somebody waits: the state of one directory, the
 * preconditions, who uses it. They do not queue behind jobs, and change nothing. Each has a deadline, so
 * that a lower layer that does not answer costs its clients that long and the daemon nothing. */
#pragma once

#include "base/failure.h"
#include "base/wire.h"
#include "process/host.h"

#define QUERY_RUNNING_MAX 16
#define QUERY_WAITING_MAX 256
#define QUERY_OWNER_MAX 8 /* so that nobody else waits behind them for long */
#define QUERY_INSPECT_USEC (5 * USEC_PER_SEC)
#define QUERY_CHECK_USEC (20 * USEC_PER_SEC) /* below the 25 s clients of the bus wait by default */

typedef struct QueryPool QueryPool;

/* failure->kind is FAILURE_NONE when records (WIRE_DIRECTORY, WIRE_CHECK or WIRE_BLOCKER) hold an answer.
 * Everything is borrowed. Called once for each query, unless the pool is freed before. */
typedef void (*query_func)(const WireRecord *records, size_t n, Failure *failure, void *userdata);

int query_pool_new(const Host *host, QueryPool **ret);
/* Drops all queries; func is called for each with FAILURE_CANCELED. */
QueryPool *query_pool_free(QueryPool *pool);
DEFINE_CLEANUP(QueryPool *, query_pool_free);

typedef struct QueryOptions {
        const char *owner; /* who asks, a text */
        const char *tag;   /* the name of the overlay */
        const char *path;  /* absolute, for messages */
        uint64_t timeout_usec;
        query_func func;
        void *userdata;
} QueryOptions;

/* Takes the request; the options are borrowed. On failure func is not called. */
int query_start(QueryPool *pool, WireRequest *request, const QueryOptions *o, Failure *reterr);
