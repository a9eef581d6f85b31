/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The object that the parts of an exchange share: its life, what went wrong in any of its threads, and
 * which directories stand in the way. It does no step itself. The first failure counts; an error that
 * belongs to one entry blocks its directory and fails nothing. */
#include <stdarg.h>
#include <string.h>

#include "base/fs-util.h"
#include "base/lock.h"
#include "base/path-util.h"
#include "base/str.h"
#include "core/exchange/exchange-internal.h"

char *exchange_node_path(const Exchange *x, const Node *n, const char *name) {
        _cleanup_free_ char *below = node_path(n),
                            *directory = below ? path_join(x->tree->path, below) : NULL;

        return directory ? path_join(directory, name ?: "") : NULL;
}

void exchange_fail(Exchange *x, int r, const Node *n, const char *name, const char *what) {
        _cleanup_free_ char *path = exchange_node_path(x, n, name);
        Failure f = FAILURE_INIT;

        (void) failure_set_errno(
                &f, r, "cannot %s '%s/%s'", what, x->context->overlay->mount_point, path ?: name);
        batch_fail(&x->batch, &f);
        if (r != -ESTALE || !n->lower)
                return;
        LOCKED(&x->batch.lock);
        x->stale = x->stale ?: path_join(n->lower, name ?: "");
}

static bool is_blocked(Node *n) {
        LOCKED(&n->tree->lock);

        return n->blocked;
}

/* An undo is done as a whole or not at all. */
int exchange_error(
        Exchange *x, ErrorCall call, int r, Node *n, int dfd, const char *name, const char *what) {
        _cleanup_free_ char *path = exchange_node_path(x, n, name), *full = NULL, *reason = NULL;

        if (r == RESULT_BLOCKED && is_blocked(n))
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
        return RESULT_BLOCKED;
}

int exchange_outcome(Exchange *x, Failure *reterr) {
        int r = batch_outcome(&x->batch, reterr);

        if (r < 0)
                return r;
        if (context_is_canceled(x->context))
                return failure_set(
                        reterr, FAILURE_CANCELED, ECANCELED, "canceled; '%s/%s' is as it was",
                        x->context->overlay->mount_point, x->tree->path);
        return 0;
}

void node_block(Node *n, DirectoryState state, const char *format, ...) {
        char *text;
        va_list ap;

        va_start(ap, format);
        text = str_formatv(format, ap);
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

typedef struct NodeTask {
        Exchange *x;
        Node *node;
        node_task_func func;
} NodeTask;

static void run_task(void *argument, unsigned thread) {
        _cleanup_free_ NodeTask *t = argument;

        if (!batch_should_stop(&t->x->batch))
                t->func(t->x, t->node);
}

int exchange_submit(Exchange *x, Node *n, node_task_func func) {
        _cleanup_free_ NodeTask *t = malloc(sizeof(NodeTask));
        int r;

        if (!t)
                return -ENOMEM;
        *t = (NodeTask){ .x = x, .node = n, .func = func };
        r = pool_submit(x->batch.pool, run_task, t);
        if (r >= 0)
                TAKE_PTR(t);
        return r;
}

int node_open(const Node *n, int root_fd) {
        _cleanup_free_ char *path = node_path(n);

        return path ? open_dir_beneath(root_fd, path) : -ENOMEM;
}

int node_open_pair(const Node *n, DirectoryPair root, DirectoryPair *ret) {
        _cleanup_free_ char *path = node_path(n);

        return path ? pair_open(root, path, ret) : -ENOMEM;
}

int node_open_old(const Exchange *x, const Node *n, DirectoryPair *ret) {
        _cleanup_pair_ DirectoryPair p = DIRECTORY_PAIR_INIT;
        int r = node_open_pair(n, x->old, &p);

        if (r < 0)
                return r;
        if (!pair_is(&p, n->old_handle))
                return -ENOENT;
        *ret = TAKE_PAIR(p);
        return 0;
}

void sides_done(Sides *s) {
        pair_done(&s->old);
        pair_done(&s->new);
        raw_list_done(&s->list);
        changes_done(&s->changes);
}

Exchange *exchange_new(Context *context) {
        Exchange *x = calloc(1, sizeof(Exchange));

        if (!x)
                return NULL;
        x->context = context;
        batch_init(&x->batch, context);
        x->staging = STAGING_INIT;
        x->lower = LOWER_INIT;
        x->parent = x->old = x->new = DIRECTORY_PAIR_INIT;
        x->inotify_fd = -EBADF;
        return x;
}

Exchange *exchange_free(Exchange *x) {
        if (!x)
                return NULL;
        batch_done(&x->batch);
        lower_done(&x->lower);
        tree_free(x->tree);
        staging_done(&x->staging);
        pair_done(&x->parent);
        pair_done(&x->old);
        pair_done(&x->new);
        (void) fd_close(x->inotify_fd);
        free(x->stale);
        free(x->name);
        free(x->beside.name);
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
        if (n->blocked)
                return true;
        ENTRY_FOREACH (n, e)
                if (e->dir && holds_blocked(e->dir))
                        return true;
        return false;
}

static int add_child(Exchange *x, const Node *n) {
        _cleanup_free_ char *path = exchange_node_path(x, n, NULL);

        return path ? path_list_add(&x->result->children, path) : -ENOMEM;
}

/* The largest subtrees that hold nothing blocked. */
static int collect_children(Node *n, void *userdata) {
        Exchange *x = userdata;
        bool parent_holds = n->parent && holds_blocked(n->parent);

        return parent_holds && !holds_blocked(n) ? add_child(x, n) : 0;
}

/* 0 when nothing is blocked, else RESULT_BLOCKED with the result filled. */
int exchange_check_blocked(Exchange *x) {
        int r;

        if (!holds_blocked(x->tree->root))
                return 0;
        r = tree_foreach(x->tree, collect_blocked, x);
        if (r >= 0)
                r = tree_foreach(x->tree, collect_children, x);
        return r < 0 ? r : RESULT_BLOCKED;
}
