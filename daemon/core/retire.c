/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The end of an old tree: when nobody stands in it, what still happened there has been taken over, and each removed name
 * was still what was put there. rmdir() is the barrier: the kernel marks the directory dead, and refuses while a late
 * operation has left something (facts E.4, step 10). */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "core/exchange-internal.h"
#include "core/standing.h"
#include "core/times.h"

#define RMDIR_ROUNDS 100 /* of late operations; each makes progress, so this only bounds a mistake of ours */
#define LOOK_MIN_MSEC 200
#define LOOK_MAX_MSEC 5000 /* nobody tells when a process leaves a directory */

typedef struct RemoveTask {
        Exchange *x;
        Node *node;
} RemoveTask;

/* Nobody was in the tree since the exchange, nobody reaches it: what stands there is what was put there. */
static int unlink_checked(int old_fd, int old_upper_fd, const Entry *e) {
        struct stat st;

        if (fstatat(old_upper_fd, e->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        if (st.st_ino != e->inode)
                return 0;
        return unlinkat(old_fd, e->name, 0) < 0 ? (errno == ENOENT ? 0 : -errno) : 1;
}

/* Removes an entry of the old tree if it is still the one that was placed; a missing one was removed by somebody there,
 * and goes from the new tree as well, unless it was us before a crash. */
static int remove_entry(Exchange *x, Node *n, Entry *e, int old_fd, int old_upper_fd) {
        int r = x->was_used || x->is_resumed ? take_out(x, old_fd, old_upper_fd, e)
                                             : unlink_checked(old_fd, old_upper_fd, e);

        if (r > 0)
                e->is_placed = false; /* what is missing from now on is missing because of us */
        else if (r == 0)
                node_recheck(n);
        return r < 0 ? r : 0;
}

static int remove_entries(Exchange *x, Node *n) {
        _cleanup_close_ int old_fd = -EBADF, old_upper_fd = -EBADF;
        _cleanup_free_ char *path = node_path(n);
        Entry *e, *next;

        if (!path)
                return -ENOMEM;
        old_fd = open_dir_beneath(x->old_fd, path);
        old_upper_fd = open_dir_beneath(x->old_upper_fd, path);
        if (old_fd == -ENOENT || old_upper_fd == -ENOENT)
                return 0;
        if (old_fd < 0 || old_upper_fd < 0)
                return old_fd < 0 ? old_fd : old_upper_fd;
        HASH_ITER(hh, n->entries, e, next) {
                int r;

                if (e->dir || !e->is_placed || e->type == DT_WHT)
                        continue;
                r = remove_entry(x, n, e, old_fd, old_upper_fd);
                if (r < 0)
                        return r;
        }
        return 0;
}

static void remove_task(void *argument, unsigned thread) {
        _cleanup_free_ RemoveTask *t = argument;
        int r = exchange_should_stop(t->x) ? 0 : remove_entries(t->x, t->node);

        if (r < 0)
                exchange_fail(t->x, r, t->node, NULL, "remove the old tree of");
}

static int submit_remove(Node *n, void *userdata) {
        Exchange *x = userdata;
        RemoveTask *t = malloc(sizeof(RemoveTask));
        int r;

        if (!t)
                return -ENOMEM;
        *t = (RemoveTask) { .x = x, .node = n };
        r = pool_submit(x->pool, remove_task, t);
        if (r < 0)
                free(t);
        return r;
}

static int old_parent(Exchange *x, const Node *n, int *ret_fd, const char **ret_name) {
        _cleanup_free_ char *path = NULL;

        if (!n->entry) {
                *ret_name = x->is_beside ? x->beside_name : STAGING_TREE;
                *ret_fd = fcntl(x->is_beside ? x->parent_fd : x->staging.dir_fd, F_DUPFD_CLOEXEC, 3);
                return *ret_fd < 0 ? -errno : 0;
        }
        path = node_path(n->parent);
        if (!path)
                return -ENOMEM;
        *ret_name = n->entry->name;
        *ret_fd = open_dir_beneath(x->old_fd, path);
        return *ret_fd < 0 ? *ret_fd : 0;
}

static int remove_directory(Exchange *x, Node *n) {
        for (unsigned round = 0; round < RMDIR_ROUNDS; round++) {
                _cleanup_close_ int fd = -EBADF;
                const char *name;
                int r = old_parent(x, n, &fd, &name);

                if (r == -ENOENT)
                        return 0;
                if (r < 0)
                        return r;
                if (unlinkat(fd, name, AT_REMOVEDIR) >= 0 || errno == ENOENT)
                        break;
                if (errno != ENOTEMPTY)
                        return -errno;
                n->changes.all = true;
                r = reconcile_dirty(x);
                if (r >= 0)
                        r = remove_entries(x, n);
                if (r < 0)
                        return r;
                if (round == RMDIR_ROUNDS - 1)
                        return -ENOTEMPTY;
        }
        n->is_removed = true;
        if (n->entry)
                n->entry->is_placed = false;
        return 0;
}

/* Children before parents. Directories that late operations moved around are met again in the next round. */
static int remove_directories(Exchange *x) {
        _cleanup_free_ Node **nodes = NULL;
        size_t n;
        int r = tree_list(x->tree, &nodes, &n);

        while (r >= 0 && n-- > 0)
                if (!nodes[n]->is_removed)
                        r = remove_directory(x, nodes[n]);
        return r;
}

static int mark_remove(Exchange *x) {
        int r;

        if (x->phase == PHASE_REMOVE)
                return 0;
        if (x->is_manifest_stale) {
                r = exchange_save(x, /* sync= */ true);
                if (r < 0)
                        return r;
                (void) unlinkat(x->staging.dir_fd, STAGING_SNAPSHOT_LAST, 0);
        }
        r = file_write_atomic(x->staging.dir_fd, STAGING_REMOVE, "", 0);
        if (r >= 0)
                x->phase = PHASE_REMOVE;
        return r;
}

static int remove_tree(Exchange *x) {
        int r = mark_remove(x);

        if (r >= 0 && !x->pool)
                r = pool_new(x->site->options.n_threads, &x->pool);
        if (r >= 0)
                r = tree_foreach(x->tree, submit_remove, x);
        if (r >= 0)
                r = exchange_wait(x, JOB_APPLYING);
        if (r >= 0)
                r = reconcile_dirty(x);
        return r < 0 ? r : remove_directories(x);
}

static int remove_guarded(Exchange *x) {
        const char *names[] = { x->beside_name, NULL };
        TimesGuard guard;
        int r;

        if (!x->is_beside)
                return remove_tree(x);
        times_guard_begin(&guard, x->parent_fd);
        r = remove_tree(x);
        times_guard_end(&guard, names);
        return r;
}

static int keep_for(Exchange *x, const Standing *standing) {
        const char *names[] = { x->beside_name, NULL };
        TimesGuard guard;
        int r;

        x->was_used = true;
        times_guard_begin(&guard, x->parent_fd);
        r = exchange_move_beside(x);
        times_guard_end(&guard, names);
        site_kept(x->site, x->tree->path, standing->n, standing->who);
        return r;
}

int exchange_retire_once(Exchange *x, Failure *reterr) {
        Standing standing = { 0 };
        int r = watch_drain(x);

        (void) tree_resume_deferred(x->tree);
        if (r >= 0)
                r = reconcile_dirty(x);
        if (r >= 0 && x->is_manifest_stale)
                r = exchange_save(x, /* sync= */ false);
        if (r >= 0)
                r = standing_find(NULL, x->is_beside ? x->beside_name : x->tree->id, &standing);
        if (r >= 0 && standing.n > 0) {
                r = keep_for(x, &standing);
                return r < 0 ? failure_set_errno(reterr, r, "cannot keep the old tree of '%s'", x->tree->path) : 0;
        }
        if (r >= 0)
                r = remove_guarded(x);
        x->pool = pool_free(x->pool);
        if (r >= 0)
                r = staging_remove(&x->staging);
        if (r < 0)
                return failure_set_errno(reterr, r, "cannot remove the old tree of '%s/%s'; it is tried again later",
                                         x->site->overlay->mount_point, x->tree->path);
        x->phase = PHASE_FINAL;
        return 1;
}

int exchange_retire(Exchange *x, Failure *reterr) {
        for (int pause = LOOK_MIN_MSEC;; pause = pause * 2 < LOOK_MAX_MSEC ? pause * 2 : LOOK_MAX_MSEC) {
                int r = exchange_retire_once(x, reterr);

                if (r != 0)
                        return r;
                r = watch_wait(x, pause);
                if (r < 0)
                        return r;
                if (site_is_canceled(x->site))
                        return -ECANCELED;
        }
}
