/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The end of an old tree: it is removed when nobody stands in it and what still happened there has been
 * taken over. The new tree changes only as reconcile.c says. A name is removed only if it is still what was
 * put there. rmdir() is the barrier: the kernel marks the directory dead, and refuses while a late operation
 * has left something (docs/overlayfs.md 5.5). */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fs-util.h"
#include "core/context/orphan.h"
#include "core/exchange/exchange-internal.h"
#include "core/upper/times.h"
#include "core/users/occupants.h"

/* A scan of /proc costs milliseconds, and those who stand in a tree may be busy there. */
#define LOOK_AGAIN_USEC (200 * USEC_PER_MSEC)
/* rmdir() fails as long as operations that began before the exchange still leave something. There are few of
 * them, and each round takes some away, so this many rounds are only reached by a mistake in this program.
 */
#define RMDIR_ROUNDS 100

/* For so many looks the removal of an old tree waits for a directory that cannot be compared just now. */
#define UNCOMPARED_LOOKS 20

/* Nobody was in the tree since the exchange, nobody reaches it: what stands there is what was put there. */
static int unlink_checked(DirectoryPair old, const Entry *e) {
        struct stat st;

        if (fstatat(old.upper_fd, e->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        if (st.st_ino != e->inode)
                return 0;
        return unlinkat(old.fd, e->name, 0) < 0 ? (errno == ENOENT ? 0 : -errno) : 1;
}

/* What one entry says does not stop the others: the first cause is told in the end, and all is tried again
 * later. */
static void note_failure(Exchange *x, int r, const Node *n, const char *name) {
        _cleanup_free_ char *path = exchange_node_path(x, n, name);
        Failure f = FAILURE_INIT;

        (void) failure_set_errno(
                &f, r, "cannot remove '%s' from the old tree of '%s/%s'", path ?: name,
                x->context->overlay->mount_point, x->tree->path);
        batch_note(&x->batch, &f);
}

/* The lower file went, or does not answer: it cannot be looked up. It is but another name of what stands in
 * the new tree, so nothing is lost with it either way, and here in staging nobody else looks it up. */
static int remove_orphan(Exchange *x, DirectoryPair old, const Entry *e) {
        int r = orphan_remove(x->context->root_fd, old, e->name, e->inode);

        return r == ORPHAN_REPLACED ? 0 : r < 0 ? r : 1;
}

/* Removes an entry of the old tree if it is still the one that was placed; a missing one was removed by
 * somebody there, and goes from the new tree as well, unless it was us before a crash. */
static void remove_entry(Exchange *x, Node *n, Entry *e, DirectoryPair old) {
        int r = x->kept.was_used || x->is_resumed ? take_out(x, old, n, e) : unlink_checked(old, e);

        if (r == -EIO || r == -ESTALE)
                r = remove_orphan(x, old, e);
        if (r > 0)
                e->is_placed = false; /* what is missing from now on is missing because of us */
        else if (r == 0)
                node_recheck(n);
        else
                note_failure(x, r, n, e->name);
}

static int remove_entries(Exchange *x, Node *n) {
        _cleanup_pair_ DirectoryPair old = DIRECTORY_PAIR_INIT;
        int r = node_open_pair(n, x->old, &old);

        if (r < 0)
                return errno_is_gone(r) ? 0 : r;
        ENTRY_FOREACH (n, e)
                if (!e->dir && e->is_placed && e->type != DT_WHT && !batch_should_stop(&x->batch))
                        remove_entry(x, n, e, old);
        return 0;
}

static void remove_task(Exchange *x, Node *n) {
        int r = remove_entries(x, n);

        if (r < 0)
                note_failure(x, r, n, NULL);
}

static int submit_remove(Node *n, void *userdata) {
        return exchange_submit(userdata, n, remove_task);
}

static int old_parent(Exchange *x, const Node *n, int *ret_fd, const char **ret_name) {
        if (!n->entry) {
                *ret_name = x->beside.is_there ? x->beside.name : STAGING_TREE;
                *ret_fd = fcntl(x->beside.is_there ? x->parent.fd : x->staging.dir.fd, F_DUPFD_CLOEXEC, 3);
                return *ret_fd < 0 ? -errno : 0;
        }
        *ret_name = n->entry->name;
        *ret_fd = node_open(n->parent, x->old.fd);
        return *ret_fd < 0 ? *ret_fd : 0;
}

static int is_not_whiteout(int dfd, const char *name, unsigned char type, void *userdata) {
        struct stat st;

        if (type != DT_CHR || fstatat(dfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_rdev != 0)
                *(bool *) userdata = true;
        return 0;
}

/* A name that the lower gained since the tree was built: nobody's data in there, it just keeps the directory
 * from going. */
static int remove_lower_name(int dfd, const char *name, unsigned char type, void *userdata) {
        const int *upper_fd = userdata;
        struct stat st;
        int r = 0;

        if (fstatat(*upper_fd, name, &st, AT_SYMLINK_NOFOLLOW) >= 0)
                return 0; /* somebody made it just now */
        if (type == DT_DIR) {
                _cleanup_close_ int fd = open_dir_beneath(dfd, name);

                r = fd < 0 ? fd : dir_empty(fd);
        }
        if (r >= 0 && unlinkat(dfd, name, type == DT_DIR ? AT_REMOVEDIR : 0) < 0 && errno != ENOENT)
                r = -errno;
        return r;
}

static int remove_lower_names(Exchange *x, Node *n) {
        _cleanup_pair_ DirectoryPair old = DIRECTORY_PAIR_INIT;
        bool holds_entries = false;
        int r = node_open_pair(n, x->old, &old);

        if (r >= 0)
                r = dir_foreach(old.upper_fd, is_not_whiteout, &holds_entries);
        return r < 0 || holds_entries ? r : dir_foreach(old.fd, remove_lower_name, &old.upper_fd);
}

static int remove_directory_at(Exchange *x, const Node *n) {
        _cleanup_close_ int fd = -EBADF;
        const char *name;
        int r = old_parent(x, n, &fd, &name);

        if (r < 0)
                return r;
        return unlinkat(fd, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

static bool old_stands(const Exchange *x, const Node *n) {
        _cleanup_close_ int fd = node_open(n, x->old.upper_fd);

        return fd >= 0 && (!n->old_handle || is_handle_at(fd, "", n->old_handle));
}

/* What never found a place in the new tree: nobody stands here any more. */
static int move_aside_to_kept(Exchange *x, Node *n) {
        _cleanup_close_ int fd = node_open(n, x->old.fd);

        ENTRY_FOREACH (n, e) {
                int r = fd;

                if (e->aside == 0)
                        continue;
                if (fd >= 0)
                        r = move_to_kept(
                                x, fd, e->name, n, e->name,
                                "made or replaced in the old tree, and without a place in the new one");
                if (r < 0)
                        return r;
                e->aside = 0;
        }
        return 0;
}

/* 1: late operations had left something, which has been taken over; directories may have come and gone. */
static int take_over_late(Exchange *x, Node *n) {
        int r;

        node_recheck(n);
        r = remove_entries(x, n);
        (void) tree_resume_deferred(x->tree);
        if (r >= 0)
                r = reconcile_dirty(x);
        return r < 0 ? r : x->batch.failure.error ? -x->batch.failure.error : 1;
}

static int remove_directory(Exchange *x, Node *n) {
        int r = old_stands(x, n) ? move_aside_to_kept(x, n) : -ENOENT;

        if (r >= 0)
                r = remove_directory_at(x, n);
        if (r == -ENOTEMPTY) {
                r = remove_lower_names(x, n);
                if (r >= 0)
                        r = remove_directory_at(x, n);
        }
        if (r == -ENOTEMPTY)
                return take_over_late(x, n);
        if (r < 0 && r != -ENOENT) /* where it went, there it is met again */
                return r;
        n->is_removed = true;
        if (r >= 0 && n->entry)
                n->entry->is_placed = false;
        return 0;
}

/* Children before parents, until something had to be taken over. */
static int remove_listed(Exchange *x) {
        _cleanup_free_ Node **nodes = NULL;
        size_t n;
        int r = tree_list(x->tree, &nodes, &n);

        while (r == 0 && n-- > 0)
                if (!nodes[n]->is_removed)
                        r = remove_directory(x, nodes[n]);
        return r;
}

static int remove_directories(Exchange *x) {
        for (uint64_t round = 0; round < RMDIR_ROUNDS + x->tree->n_nodes; round++) {
                int r = remove_listed(x);

                if (r <= 0)
                        return r;
        }
        return -ENOTEMPTY;
}

/* The exchange and what was taken over since are on disk before anything says that the old tree may go: on
 * some file systems (btrfs) a file that is synced is there after a power loss, and a rename before it is
 * not. */
static int mark_remove(Exchange *x) {
        _cleanup_failure_ Failure f = FAILURE_INIT;
        int r;

        if (x->phase == PHASE_REMOVE)
                return 0;
        r = exchange_save(x, /* sync= */ false);
        if (r >= 0)
                r = context_make_durable(x->context, &f);
        batch_note(&x->batch, &f);
        if (r < 0)
                return r;
        r = file_write_atomic(x->staging.dir.fd, STAGING_REMOVE, "", 0);
        if (r >= 0)
                x->phase = PHASE_REMOVE;
        return r;
}

static int remove_tree(Exchange *x) {
        int r = mark_remove(x);

        if (r >= 0)
                r = batch_begin(&x->batch);
        if (r >= 0)
                r = tree_foreach(x->tree, submit_remove, x);
        if (r >= 0)
                r = batch_wait(&x->batch, JOB_APPLYING);
        if (r != RESULT_HUNG) /* threads that hang use it still */
                batch_end(&x->batch);
        if (r >= 0)
                r = reconcile_dirty(x);
        if (r >= 0)
                r = -x->batch.failure.error;
        return r < 0 ? r : remove_directories(x);
}

static int keep_for_occupants(Exchange *x, const Occupants *occupants) {
        const char *names[] = { x->beside.name, NULL };
        TimesGuard guard;
        int r = 0;

        x->kept.was_used = x->kept.is_theirs = true;
        if (x->parent.fd >= 0) {
                times_guard_begin(&guard, x->parent.fd);
                r = exchange_move_beside(x);
                times_guard_end(&guard, names);
        }
        context_kept(x->context, x->tree->path, x->staging.id, occupants->n, occupants->who);
        return r == -ENOENT ? 0 : r; /* the directory around is gone: it stays in staging */
}

static int rename_to_staging(Exchange *x) {
        if (renameat2(x->parent.fd, x->beside.name, x->staging.dir.fd, STAGING_TREE, RENAME_NOREPLACE) < 0)
                return -errno;
        if (is_handle_at(x->staging.dir.upper_fd, STAGING_TREE, x->tree->root->old_handle)) {
                x->beside.is_there = false;
                return 0;
        }
        /* Not ours: somebody put it there just now. Told, and tried again later. */
        (void) renameat2(x->staging.dir.fd, STAGING_TREE, x->parent.fd, x->beside.name, RENAME_NOREPLACE);
        return -EAGAIN;
}

/* From beside its directory back to staging, where nobody comes to it by path. */
static int move_to_staging(Exchange *x) {
        const char *names[] = { x->beside.name, NULL };
        TimesGuard guard;
        int r;

        if (!x->beside.is_there)
                return 0;
        times_guard_begin(&guard, x->parent.fd);
        r = rename_to_staging(x);
        times_guard_end(&guard, names);
        return r;
}

static int find_uncompared(Node *n, void *userdata) {
        return n->is_deferred && old_stands(userdata, n) ? -EEXIST : 0;
}

/* What could not be compared just now: once the tree is being removed nobody would ask for it any more. Of
 * directories that have left the tree, the ones around tell. */
static bool has_uncompared(Exchange *x) {
        if (tree_foreach(x->tree, find_uncompared, x) != -EEXIST)
                x->kept.n_uncompared_looks = 0;
        else if (x->kept.n_uncompared_looks < UNCOMPARED_LOOKS) {
                x->kept.n_uncompared_looks++;
                return true;
        }
        return false;
}

/* Takes over what happened. 1: nobody stands in the tree, and nothing waits. */
static int look(Exchange *x) {
        Occupants occupants = { 0 };
        int r = reconcile_events(x);

        if (r >= 0 && x->is_manifest_stale)
                r = exchange_save(x, /* sync= */ false);
        if (r >= 0 && x->kept.occupied_usec != 0 &&
            now_monotonic_usec() - x->kept.occupied_usec < LOOK_AGAIN_USEC)
                return 0; /* every event leads here; what it said is taken over */
        x->kept.occupied_usec = 0;
        if (r >= 0)
                r = occupants_find(x->beside.is_there ? x->beside.name : x->tree->id, NULL, &occupants);
        if (r >= 0 && occupants.n > 0) {
                x->kept.occupied_usec = now_monotonic_usec();
                return keep_for_occupants(x, &occupants);
        }
        if (r >= 0) {
                int held = layer_hold_look(x);

                if (held != 0)
                        return held < 0 ? held : 0;
        }
        return r < 0 ? r : !has_uncompared(x);
}

/* Somebody has removed it from beside its directory, or moved it away. */
static bool is_root_gone(const Exchange *x) {
        _cleanup_free_ char *found = NULL;
        int r;

        if (!x->beside.is_there)
                return false;
        r = file_handle_at(x->parent.upper_fd, x->beside.name, &found);
        return r == -ENOENT ||
                (r >= 0 && x->tree->root->old_handle && strcmp(found, x->tree->root->old_handle) != 0);
}

/* 1: it is in staging, and nobody stands in it. */
static int bring_back(Exchange *x) {
        bool was_beside = x->beside.is_there;
        int r = move_to_staging(x);

        /* Who came by path meanwhile, and what those did last who left while they were looked for. */
        if (r >= 0 && was_beside) {
                x->kept.occupied_usec = 0;
                r = look(x);
                if (r <= 0)
                        return r;
        }
        if (r >= 0 && x->kept.is_theirs) {
                x->kept.is_final_look = true;
                r = reconcile_all(x);
        }
        return r < 0 ? r : 1;
}

static int retire_once(Exchange *x) {
        int r = look(x);

        if (r <= 0)
                return r;
        if (!is_root_gone(x)) {
                r = bring_back(x);
                if (r <= 0)
                        return r;
                r = remove_tree(x);
        }
        if (r >= 0)
                r = quarantine_clear(x, /* is_final= */ true);
        if (r >= 0)
                r = staging_remove(&x->staging);
        return r < 0 ? r : 1;
}

/* Once, since it is tried again and again. */
static void tell_failure(Exchange *x, int r) {
        _cleanup_failure_ Failure f = FAILURE_INIT;

        if (x->kept.has_told_failure)
                return;
        x->kept.has_told_failure = true;
        failure_move(&f, &x->batch.failure);
        (void) failure_set_errno(&f, r, "cannot remove the old tree");
        context_note(x->context, x->tree->path, "%s; it is tried again later", f.message ?: strerror(-r));
}

int exchange_retire(Exchange *x) {
        int r;

        batch_forget_failure(&x->batch);
        r = retire_once(x);
        if (r == 1)
                x->phase = PHASE_FINAL;
        if (r < 0 && r != RESULT_HUNG)
                tell_failure(x, r);
        return r;
}
