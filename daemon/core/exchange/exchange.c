/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The order of the steps of an exchange: build, settle, exchange, reconcile. The steps themselves are in the
 * files that exchange-internal.h lists. */
#include <poll.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "base/str.h"
#include "core/exchange/exchange-internal.h"
#include "core/mount/reconfigure.h"
#include "core/upper/fileattr.h"
#include "core/upper/layer.h"
#include "core/upper/meta.h"
#include "core/upper/names.h"
#include "core/upper/observe.h"
#include "core/upper/redirect-max.h"
#include "core/users/held.h"

/* New builds after something that only a new build can take up. */
#define MAX_ATTEMPTS 10
/* Between attempts of an undo whose directories somebody still holds as what they were before. */
#define STALE_PAUSE_MSEC 50 /* twice as long each time */
#define STALE_ATTEMPTS 7
/* Attempts before all that is only cached is forgotten, of the whole overlay. */
#define STALE_RECONFIGURE 2

static int open_parent(Exchange *x, const char *path) {
        _cleanup_free_ char *parent = path_dirname(path);

        x->name = strdup(path_basename(path));
        if (!parent || !x->name)
                return -ENOMEM;
        x->parent.fd = open_dir_beneath(x->context->root_fd, parent);
        if (x->parent.fd < 0)
                return x->parent.fd;
        x->old.fd = open_dir_beneath(x->parent.fd, x->name);
        return x->old.fd < 0 ? x->old.fd : 0;
}

static int refuse_copy_up(const Exchange *x, const char *path, int error, Failure *reterr) {
        const char *mount_point = x->context->overlay->mount_point;
        FileAttr a, parent;
        int r = fileattr_get(x->old.fd, &a);

        if (r >= 0)
                r = fileattr_get(x->parent.fd, &parent);
        if (r >= 0 && error == -EPERM && fileattr_is_frozen(&a))
                return failure_set(
                        reterr, FAILURE_PRECONDITION, EPERM,
                        "'%s/%s' is immutable or append-only; take that away first (chattr -i -a)",
                        mount_point, path);
        if (r >= 0 && error == -EXDEV && fileattr_hands_on_project(&parent))
                return failure_set(
                        reterr, FAILURE_PRECONDITION, EXDEV,
                        "'%s/%s' cannot be copied up: the directory it is in hands on its project (chattr "
                        "+P), and the work directory has another one",
                        mount_point, path);
        return r < 0 ? r : error;
}

/* Brings the directory to the upper, where its inode identifies it. */
static int open_upper(Exchange *x, const char *path, Failure *reterr) {
        _cleanup_free_ char *parent = path_dirname(path);
        int r;

        if (!parent)
                return -ENOMEM;
        r = meta_copy_up(x->old.fd);
        if (r < 0)
                return r == -EPERM || r == -EXDEV ? refuse_copy_up(x, path, r, reterr) : r;
        x->parent.upper_fd = open_dir_beneath(x->context->upper_fd, parent);
        if (x->parent.upper_fd < 0)
                return x->parent.upper_fd;
        x->old.upper_fd = open_dir_beneath(x->parent.upper_fd, x->name);
        return x->old.upper_fd < 0 ? x->old.upper_fd : 0;
}

/* The path may have led from one directory to another one between the two that were opened. */
static int check_same(const Exchange *x, const char *path) {
        _cleanup_close_ int fd = open_dir_beneath(x->context->root_fd, path),
                            upper_fd = open_dir_beneath(x->context->upper_fd, path);

        return fd_is_same(fd, x->old.fd) > 0 && fd_is_same(upper_fd, x->old.upper_fd) > 0 ? 0
                                                                                          : EXCHANGE_ANEW;
}

static int find_root_lower(Exchange *x, const char *path) {
        Node *root = x->tree->root;
        int r = upper_lower_path_of(x->context->upper_fd, path, x->old.upper_fd, &root->lower);

        root->is_merged = r >= 0 && root->lower;
        return r == -ESTALE && !x->tree->is_undo ? EXCHANGE_ANEW : r; /* it was renamed just now */
}

static void look_at_lower(Exchange *x) {
        const char *lower = x->tree->root->lower;

        if (lower && lower_open_for_record(x->context, &x->lower) >= 0)
                (void) lower_identify(&x->lower, lower, &x->tree->root->lower_identity);
}

static int exchange_open(Exchange *x, const char *path, bool is_undo, Failure *reterr) {
        int r = open_parent(x, path);

        if (r == -EXDEV)
                return failure_set(
                        reterr, FAILURE_PRECONDITION, EBUSY,
                        "'%s/%s' is a mount point; unmount it, or finalize directories below",
                        x->context->overlay->mount_point, path);
        if (r >= 0)
                r = open_upper(x, path, reterr);
        if (r >= 0)
                r = check_same(x, path);
        if (r >= 0)
                r = staging_create(x->context, &x->staging, reterr);
        if (r >= 0)
                r = tree_new(path, x->staging.id, is_undo, &x->tree);
        if (r >= 0)
                r = file_handle_at(x->context->upper_fd, "", &x->tree->upper);
        if (r >= 0)
                r = find_root_lower(x, path);
        if (r >= 0 && !is_undo)
                look_at_lower(x);
        if (r >= 0) {
                x->beside.name = str_format(OLD_TREE_PREFIX "%s", x->staging.id);
                r = x->beside.name ? 0 : -ENOMEM;
        }
        if (r >= 0)
                r = watch_open(x);
        if (r >= 0)
                r = batch_begin(&x->batch);
        if (r >= 0) {
                throttle_apply(x->context->throttle, x->batch.pool);
                return 0;
        }
        if (r == EXCHANGE_ANEW)
                return r;
        return failure_set_errno(reterr, r, "cannot open '%s/%s'", x->context->overlay->mount_point, path);
}

static int step_watch(Exchange *x, Failure *reterr) {
        int r = build_scan(x);

        x->has_built = true;
        if (r >= 0)
                build_restore_times(x);
        if (r >= 0 && x->has_moved)
                return EXCHANGE_ANEW;
        return r < 0 ? r : exchange_check_blocked(x);
}

static int step_copy_up(Exchange *x, Failure *reterr) {
        int r = build_place(x);

        if (r < 0)
                return r;
        build_restore_times(x);
        return exchange_check_blocked(x);
}

static int step_verify(Exchange *x, Failure *reterr) {
        return observe_new_tree(x->new.fd, x->tree->is_undo);
}

static int step_settle(Exchange *x, Failure *reterr) {
        int r, priority = priority_raise();

        settle_begin(x);
        r = settle(x, reterr);
        priority_restore(priority);
        return r;
}

static int step_stand(Exchange *x, Failure *reterr) {
        return exchange_wait_for_occupants(x->context, x->tree->path, x, reterr);
}

static int step_exchange(Exchange *x, Failure *reterr) {
        int r;

        batch_progress(&x->batch, JOB_APPLYING);
        do {
                r = build_copy_attributes_late(x);
                if (r >= 0)
                        r = exchange_now(x, reterr);
        } while (r == EXCHANGED_HELD_UP && (r = step_stand(x, reterr)) >= 0);
        if (r >= 0 && x->is_manifest_stale)
                r = exchange_save(x, /* sync= */ false);
        /* Directories that came after the record was written. */
        if (r >= 0 && x->is_record_stale && !x->tree->is_undo)
                r = manifest_write(x->tree, x->context->records_fd, x->tree->id);
        return r;
}

const ExchangeStep exchange_steps[] = {
        { "watch", "watch and list every directory, make its counterpart in staging",
          "it lists directories; see whether the lower layers answer", step_watch },
        { "copy-up", "copy up the metadata of every entry and link it into the new tree",
          "it copies metadata from the lower layers to the upper file system; see whether both answer",
          step_copy_up },
        { "verify", "see how the running mount treats the new tree",
          "it looks at the new tree; see whether the upper file system answers", step_verify },
        { "settle", "wait until no name has changed for QuietSec=, follow what does",
          "it follows what changes and writes the new tree down; see whether the upper file system answers",
          step_settle },
        { "stand", NULL,
          "it looks through /proc for processes that stand in the directory; see whether one of them hangs",
          step_stand },
        { "exchange", "exchange old and new in one rename, take over what came late",
          "it exchanges old and new; see whether the upper file system answers", step_exchange },
        { "retire", "remove the old tree when nobody stands in it", NULL, NULL },
};
const size_t n_exchange_steps = ELEMENTSOF(exchange_steps);

static void abandon(Exchange *x) {
        if (x->phase >= PHASE_EXCHANGED)
                return;
        if (x->tree && x->inotify_fd >= 0 && !x->has_manifest)
                build_restore_times(x);
        if (x->has_manifest && !x->tree->is_undo)
                (void) unlinkat(x->context->records_fd, x->tree->id, 0);
        /* What holds the tree would keep the kernel from forgetting it. */
        pair_done(&x->new);
        if (staging_remove(&x->staging) < 0)
                x->result->needs_survey = true;
}

static int run_once(Exchange *x, const char *path, bool is_undo, Failure *reterr) {
        int r = exchange_open(x, path, is_undo, reterr);

        for (size_t i = 0; r >= 0 && i < n_exchange_steps; i++) {
                if (!exchange_steps[i].func)
                        continue;
                context_doing(x->context, exchange_steps[i].doing);
                r = exchange_steps[i].func(x, reterr);
        }
        return r;
}

/* What belongs to the directory itself, wherever it happened: it is left out as one below it would be. f:
 * what is known of it so far. */
static int block_self(Exchange *x, const char *path, int r, WorkResult *ret, const Failure *f) {
        _cleanup_free_ char *full = path_join(x->context->overlay->mount_point, path), *reason = NULL;
        int k;

        if (!full)
                return -ENOMEM;
        reason = error_reason(r, CALL_MAKE, "exchange", full, x->old.fd, "");
        k = reason ? work_result_block(ret, path, error_state(r), -r, f->message ?: reason) : -ENOMEM;
        return k < 0 ? k : RESULT_BLOCKED;
}

/* What was refused, rather than an error of a system call, says by itself what it concerns. */
static bool is_own_error(const Exchange *x, bool is_undo, int r, const Failure *f) {
        bool is_refusal = f->kind == FAILURE_BUSY || f->kind == FAILURE_PRECONDITION;

        return !is_undo && !errno_is_gone(r) && (!is_refusal || f->error == EOPNOTSUPP) &&
                error_scope(x->context, CALL_MAKE, r) == SCOPE_ENTRY;
}

static int explain(Exchange *x, const char *path, bool is_undo, int r, WorkResult *ret, Failure *reterr) {
        int k = x->tree ? exchange_outcome(x, reterr) : 0;

        if (k < 0)
                return k;
        if (r == RESULT_BLOCKED && (ret->n_blocked > 0 || ret->has_merged_child))
                return r;
        if (is_own_error(x, is_undo, r, reterr)) {
                k = block_self(x, path, r, ret, reterr);
                failure_done(reterr);
                return k;
        }
        return failure_set_errno(
                reterr, r, "cannot exchange '%s/%s'", x->context->overlay->mount_point, path);
}

/* An inode in memory stands for a directory as it was before it was finalized. Mostly it is held by a
 * listing that is about to end, or by nobody any more, and only cached. */
static void let_go_of_stale(Context *context, unsigned n) {
        context_doing(context, "it waits for somebody to let go of what the directory was before");
        (void) poll(NULL, 0, STALE_PAUSE_MSEC << n);
        if (n >= STALE_RECONFIGURE)
                (void) remount_reconfigure(context->root_fd, NULL); /* else the next attempt says so again */
}

static bool is_stale(const Exchange *x, bool is_undo, int r) {
        return is_undo &&
                (r == -ESTALE || (atomic_load(&x->batch.has_failed) && x->batch.failure.error == ESTALE));
}

/* Whether it is the lower layer that answers so, or not at all: that is to be waited for, and nobody holds
 * anything. */
static bool lower_fails(const Exchange *x, const char *path) {
        const char *root = x->tree && x->tree->root->lower ? x->tree->root->lower : path;
        _cleanup_(lower_done) Lower l = LOWER_INIT;
        _cleanup_failure_ Failure f = FAILURE_INIT;
        struct stat st;
        int r = lower_open(x->context, &l, &f);

        if (f.kind == FAILURE_LOWER_UNPROVED)
                return false;
        if (r >= 0)
                r = lower_stat(&l, root, &st);
        if (r >= 0 && x->stale)
                r = lower_stat(&l, x->stale, &st);
        return r < 0 && r != -ENOENT;
}

static int hand_over(Exchange *x, int r, const char *path, WorkResult *ret, Failure *reterr) {
        batch_end(&x->batch);
        lower_done(&x->lower); /* it may be unmounted while an old tree is kept */
        ret->n_entries += atomic_load(&x->batch.n_total);
        ret->n_directories += x->tree->n_nodes;
        x->result = NULL;
        return r < 0 ? failure_set_errno(reterr, r, "cannot reconcile '%s'", path) : 0;
}

int exchange_run(
        Context *context,
        const char *path,
        bool is_undo,
        const Records *records,
        WorkResult *ret,
        Exchange **ret_kept,
        Failure *reterr) {
        int r = exchange_wait_for_occupants(context, path, /* x= */ NULL, reterr);
        unsigned n_stale = 0;

        if (r < 0)
                return r;
        for (unsigned attempt = 0;;) {
                _cleanup_(exchange_freep) Exchange *x = exchange_new(context);
                _cleanup_failure_ Failure f = FAILURE_INIT; /* of this attempt */

                if (!x)
                        return -ENOMEM;
                x->records = records;
                x->result = ret;
                r = run_once(x, path, is_undo, &f);
                redirect_max_release(&context->redirect_max_hold);
                if (r == RESULT_HUNG) { /* threads hang in the kernel: nothing of theirs may be freed */
                        TAKE_PTR(x);
                        return r;
                }
                if (r >= 0 || x->phase >= PHASE_EXCHANGED) {
                        failure_move(reterr, &f);
                        r = hand_over(x, r, path, ret, reterr);
                        *ret_kept = TAKE_PTR(x);
                        return r;
                }
                abandon(x);
                if (is_stale(x, is_undo, r) && !context_is_canceled(context) && !lower_fails(x, path)) {
                        if (n_stale == STALE_ATTEMPTS)
                                return held_explain(context, path, reterr);
                        let_go_of_stale(context, n_stale++);
                        continue;
                }
                if (r == EXCHANGE_ANEW && attempt++ < MAX_ATTEMPTS && !batch_should_stop(&x->batch) &&
                    f.kind == FAILURE_NONE)
                        continue;
                failure_move(reterr, &f);
                return explain(x, path, is_undo, r, ret, reterr);
        }
}
