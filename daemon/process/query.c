/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "process/query.h"

#include <string.h>
#include <utlist.h>

#define RECORDS_MAX                                                                                         \
        256         /* no list of preconditions is that long; of blockers, the most important come first */
#define STUCK_MAX 4 /* of one overlay, before nobody is sent after them */

typedef struct Query Query;
struct Query {
        Query *next;
        QueryPool *pool;
        WireRequest request;
        char *owner; /* who asks */
        char *tag;
        char *path;
        Proc *proc; /* NULL while it waits for its turn */
        sd_event_source *timer;
        WireRecord *records;
        size_t n_records;
        query_func func;
        void *userdata;
};

struct QueryPool {
        const Host *host;
        Query *queries; /* in order of arrival */
};

int query_pool_new(const Host *host, QueryPool **ret) {
        QueryPool *pool = malloc(sizeof(QueryPool));

        if (!pool)
                return -ENOMEM;
        *pool = (QueryPool){ .host = host };
        *ret = pool;
        return 0;
}

static Query *query_free(Query *q) {
        if (!q)
                return NULL;
        if (q->pool->queries) /* one that could not be started is in no list */
                LL_DELETE(q->pool->queries, q);
        (void) sd_event_source_disable_unref(q->timer);
        (void) proc_free(q->proc);
        wire_request_done(&q->request);
        free(q->records);
        free(q->owner);
        free(q->tag);
        free(q->path);
        free(q);
        return NULL;
}
DEFINE_CLEANUP(Query *, query_free);

static void query_pool_run(QueryPool *pool);

/* Answers and frees the query, then lets the next one in. */
static void query_end(Query *q, Failure *failure) {
        QueryPool *pool = q->pool;

        if (failure->kind == FAILURE_NONE)
                q->func(q->records, q->n_records, failure, q->userdata);
        else
                q->func(NULL, 0, failure, q->userdata);
        (void) query_free(q);
        query_pool_run(pool);
}

QueryPool *query_pool_free(QueryPool *pool) {
        if (!pool)
                return NULL;
        while (pool->queries) {
                _cleanup_failure_ Failure failure = FAILURE_INIT;
                Query *q = pool->queries;

                (void) failure_set(&failure, FAILURE_CANCELED, ECANCELED, "the daemon is ending");
                q->func(NULL, 0, &failure, q->userdata);
                (void) query_free(q);
        }
        free(pool);
        return NULL;
}

static void query_add_record(Query *q, const WireRecord *r) {
        if (q->n_records < RECORDS_MAX && ARRAY_GROW(q->records, q->n_records))
                q->records[q->n_records++] = *r;
}

static void query_on_record(Proc *p, const WireRecord *r, void *userdata) {
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        Query *q = userdata;

        if (r->kind == WIRE_DIRECTORY || r->kind == WIRE_CHECK || r->kind == WIRE_BLOCKER)
                query_add_record(q, r);
        if (r->kind != WIRE_RESULT)
                return;
        (void) wire_result(r, &failure);
        query_end(q, &failure);
}

static void query_on_end(Proc *p, ProcEnd end, int status, void *userdata) {
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        Query *q = userdata;

        q->proc = NULL;
        if (end == PROC_UNMOUNTED)
                (void) failure_set(
                        &failure, FAILURE_NOT_MANAGED, ENOENT, "the overlay of '%s' was unmounted", q->path);
        (void) failure_set(
                &failure, FAILURE_FAILED, EIO,
                "the worker that looked at '%s' ended by %s %i without an answer", q->path,
                end == PROC_EXITED ? "exit status" : "signal", status);
        query_end(q, &failure);
}

static const ProcHandler query_handler = { .on_record = query_on_record, .on_end = query_on_end };

static int on_deadline(sd_event_source *s, uint64_t usec, void *userdata) {
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        Query *q = userdata;

        (void) failure_set(
                &failure, FAILURE_LOWER_UNREACHABLE, ETIMEDOUT,
                "no answer about '%s' in time; see whether the server of the overlay's lower layers answers",
                q->path);
        if (q->proc)
                proc_kill(q->proc);
        query_end(q, &failure);
        return 0;
}

static unsigned query_pool_count(const QueryPool *pool, bool is_running) {
        unsigned n = 0;

        for (const Query *q = pool->queries; q; q = q->next)
                n += (q->proc != NULL) == is_running;
        return n;
}

static Query *query_pool_next(const QueryPool *pool) {
        Query *q = pool->queries;

        while (q && q->proc)
                q = q->next;
        return q;
}

static void query_pool_run(QueryPool *pool) {
        while (query_pool_count(pool, true) < QUERY_RUNNING_MAX) {
                _cleanup_failure_ Failure failure = FAILURE_INIT;
                Query *q = query_pool_next(pool);
                int r;

                if (!q)
                        return;
                r = proc_spawn(pool->host->workers, q->tag, &q->request, &query_handler, q, &q->proc);
                if (r >= 0)
                        continue;
                (void) failure_set(&failure, FAILURE_FAILED, -r, "cannot start a worker: %s", strerror(-r));
                q->func(NULL, 0, &failure, q->userdata);
                (void) query_free(q);
        }
}

static unsigned query_pool_count_of(const QueryPool *pool, const char *owner) {
        unsigned n = 0;

        for (const Query *q = pool->queries; q; q = q->next)
                n += strcmp(q->owner, owner) == 0;
        return n;
}

static int query_pool_check_room(const QueryPool *pool, const QueryOptions *o, Failure *reterr) {
        if (pool->host->is_stopping)
                return failure_set(reterr, FAILURE_CANCELED, ECANCELED, "the daemon is ending");
        if (query_pool_count(pool, false) >= QUERY_WAITING_MAX)
                return failure_set(
                        reterr, FAILURE_BUSY, EBUSY,
                        "too many questions are waiting for an answer; ask again about '%s' later", o->path);
        if (query_pool_count_of(pool, o->owner) >= QUERY_OWNER_MAX)
                return failure_set(
                        reterr, FAILURE_BUSY, EBUSY,
                        "%u questions of yours are waiting for an answer; ask about '%s' when you have it",
                        (unsigned) QUERY_OWNER_MAX, o->path);
        if (proc_pool_count_stuck(pool->host->workers, o->tag) >= STUCK_MAX)
                return failure_set(
                        reterr, FAILURE_LOWER_UNREACHABLE, EHOSTUNREACH,
                        "workers that looked at the overlay of '%s' hang in the kernel; see whether the "
                        "server of its "
                        "lower layers answers",
                        o->path);
        return 0;
}

int query_start(QueryPool *pool, WireRequest *request, const QueryOptions *o, Failure *reterr) {
        _cleanup_(query_freep) Query *q = NULL;
        int r = query_pool_check_room(pool, o, reterr);

        if (r < 0)
                return r;
        q = malloc(sizeof(Query));
        if (!q)
                return failure_set_errno(reterr, -ENOMEM, "cannot look at '%s'", o->path);
        *q = (Query){ .pool = pool,
                      .owner = strdup(o->owner),
                      .tag = strdup(o->tag),
                      .path = strdup(o->path),
                      .func = o->func,
                      .userdata = o->userdata };
        if (!q->owner || !q->tag || !q->path)
                return failure_set_errno(reterr, -ENOMEM, "cannot look at '%s'", o->path);
        r = sd_event_add_time_relative(
                pool->host->event, &q->timer, CLOCK_MONOTONIC, o->timeout_usec, USEC_PER_MSEC, on_deadline,
                q);
        if (r < 0)
                return failure_set_errno(reterr, r, "cannot set a deadline");
        q->request = TAKE_STRUCT(*request);
        LL_APPEND(pool->queries, q);
        (void) TAKE_PTR(q);
        query_pool_run(pool);
        return 0;
}
