/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The object that the parts of an exchange share: its life, what went wrong in any of its threads, and
 * which directories stand in the way. It does no step itself. The first failure counts; an error that
 * belongs to one entry blocks its directory and fails nothing. */
#include <stdarg.h>
#include <string.h>

#include "base/clock.h"
#include "base/path-util.h"
#include "core/exchange/exchange-internal.h"

/* How long threads may take to come back after a cancel before the process leaves without them. */
#define CANCEL_PATIENCE_USEC (3 * USEC_PER_SEC)

char *exchange_node_path(const Exchange *x, const Node *n, const char *name) {
        _cleanup_free_ char *below = node_path(n),
                            *directory = below ? path_join(x->tree->path, below) : NULL;

        return directory ? path_join(directory, name ?: "") : NULL;
}

void exchange_fail(Exchange *x, int r, const Node *n, const char *name, const char *what) {
        _cleanup_free_ char *path = exchange_node_path(x, n, name);

        (void) pthread_mutex_lock(&x->tree->lock);
        (void) failure_set_errno(
                &x->failure, r, "cannot %s '%s/%s'", what, x->context->overlay->mount_point, path ?: name);
        if (r == -ESTALE && n->lower && !x->stale)
                x->stale = path_join(n->lower, name ?: "");
        (void) pthread_mutex_unlock(&x->tree->lock);
        atomic_store(&x->has_failed, true);
}

static bool is_blocked(Node *n) {
        bool r;

        (void) pthread_mutex_lock(&n->tree->lock);
        r = n->blocked;
        (void) pthread_mutex_unlock(&n->tree->lock);
        return r;
}

/* An undo is done as a whole or not at all. */
int exchange_error(
        Exchange *x, ErrorCall call, int r, Node *n, int dfd, const char *name, const char *what) {
        _cleanup_free_ char *path = exchange_node_path(x, n, name), *full = NULL, *reason = NULL;

        if (r == -EUCLEAN && is_blocked(n))
                return r;
        if (!x->tree->is_undo && path && error_scope(x->context, call, r) == SCOPE_ENTRY)
                full = path_join(x->context->overlay->mount_point, path);
        if (full)
                reason = error_reason(r, call, what, full, dfd, name);
        if (!reason) {
                exchange_fail(x, r, n, name, what);
                return r;
        }
        node_block(n, error_state(r), "%s", reason);
        n->blocked_error = -r;
        return -EUCLEAN;
}

void exchange_refuse(Exchange *x, Failure *failure) {
        (void) pthread_mutex_lock(&x->tree->lock);
        failure_move(&x->failure, failure);
        (void) pthread_mutex_unlock(&x->tree->lock);
        atomic_store(&x->has_failed, true);
}

void exchange_forget_failure(Exchange *x) {
        failure_done(&x->failure);
        atomic_store(&x->has_failed, false);
}

bool exchange_should_stop(const Exchange *x) {
        return atomic_load(&x->has_failed) || context_is_canceled(x->context);
}

int exchange_outcome(Exchange *x, Failure *reterr) {
        int error = x->failure.error;

        if (atomic_load(&x->has_failed)) {
                failure_move(reterr, &x->failure);
                return error > 0 ? -error : -EIO;
        }
        if (context_is_canceled(x->context))
                return failure_set(
                        reterr, FAILURE_CANCELED, ECANCELED, "canceled; '%s/%s' is as it was",
                        x->context->overlay->mount_point, x->tree->path);
        return 0;
}

void node_block(Node *n, DirectoryState state, const char *format, ...) {
        char *text = NULL;
        va_list ap;

        va_start(ap, format);
        if (vasprintf(&text, format, ap) < 0)
                text = NULL;
        va_end(ap);
        (void) pthread_mutex_lock(&n->tree->lock);
        if (!n->blocked) {
                n->blocked = text;
                n->blocked_state = state;
                text = NULL;
        }
        (void) pthread_mutex_unlock(&n->tree->lock);
        free(text);
}

int exchange_wait(Exchange *x, JobState state) {
        uint64_t canceled_usec = 0;

        while (pool_wait(x->pool, 100) == 0) {
                context_progress(
                        x->context, throttle_is_waiting(x->context->throttle) ? JOB_WAITING : state,
                        atomic_load(&x->n_done), atomic_load(&x->n_total));
                if (!context_is_canceled(x->context))
                        continue;
                canceled_usec = canceled_usec ?: now_monotonic_usec();
                if (now_monotonic_usec() - canceled_usec > CANCEL_PATIENCE_USEC)
                        return -ESHUTDOWN;
        }
        context_progress(x->context, state, atomic_load(&x->n_done), atomic_load(&x->n_total));
        return exchange_should_stop(x) ? -ECANCELED : 0;
}

Exchange *exchange_new(Context *context) {
        Exchange *x = calloc(1, sizeof(Exchange));

        if (!x)
                return NULL;
        x->context = context;
        x->staging = STAGING_INIT;
        x->lower = LOWER_INIT;
        x->parent_fd = x->parent_upper_fd = x->old_fd = x->old_upper_fd = x->new_fd = x->new_upper_fd =
                -EBADF;
        x->inotify_fd = -EBADF;
        return x;
}

Exchange *exchange_free(Exchange *x) {
        if (!x)
                return NULL;
        pool_free(x->pool);
        lower_done(&x->lower);
        tree_free(x->tree);
        staging_done(&x->staging);
        (void) fd_close(x->parent_fd);
        (void) fd_close(x->parent_upper_fd);
        (void) fd_close(x->old_fd);
        (void) fd_close(x->old_upper_fd);
        (void) fd_close(x->new_fd);
        (void) fd_close(x->new_upper_fd);
        (void) fd_close(x->inotify_fd);
        failure_done(&x->failure);
        free(x->stale);
        free(x->name);
        free(x->beside_name);
        free(x);
        return NULL;
}

int exchange_watch_fd(const Exchange *x) {
        return x->inotify_fd;
}

const char *exchange_path(const Exchange *x) {
        return x->tree->path;
}

const char *exchange_id(const Exchange *x) {
        return x->staging.id;
}

static int collect_blocked(Node *n, void *userdata) {
        Exchange *x = userdata;
        _cleanup_free_ char *path = NULL;

        if (!n->blocked)
                return 0;
        path = exchange_node_path(x, n, NULL);
        return path
                ? work_result_block(
                          x->result, path, (DirectoryState) n->blocked_state, n->blocked_error, n->blocked)
                : -ENOMEM;
}

static bool holds_blocked(const Node *n) {
        Entry *e, *next;

        if (n->blocked)
                return true;
        HASH_ITER(hh, n->entries, e, next) {
                if (e->dir && holds_blocked(e->dir))
                        return true;
        }
        return false;
}

static int add_child(Exchange *x, const Node *n) {
        _cleanup_free_ char *path = exchange_node_path(x, n, NULL);

        return path ? path_list_add(&x->result->children, &x->result->n_children, path) : -ENOMEM;
}

/* The largest subtrees that hold nothing blocked. */
static int collect_children(Node *n, void *userdata) {
        Exchange *x = userdata;
        bool parent_holds = n->parent && holds_blocked(n->parent);

        return parent_holds && !holds_blocked(n) ? add_child(x, n) : 0;
}

/* 0 when nothing is blocked, else -EUCLEAN with the result filled. */
int exchange_check_blocked(Exchange *x) {
        int r;

        if (!holds_blocked(x->tree->root))
                return 0;
        r = tree_foreach(x->tree, collect_blocked, x);
        if (r >= 0)
                r = tree_foreach(x->tree, collect_children, x);
        return r < 0 ? r : -EUCLEAN;
}
