/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Before the exchange: what changed in the old tree is done in the new one. Nobody sees the new tree yet,
 * so whatever does not fit is simply taken out and made again. The old tree is only read. A directory that
 * disappears is kept in the quarantine until it is known whether it appeared somewhere else. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "core/exchange/exchange-internal.h"
#include "core/lower/difference.h"
#include "core/upper/names.h"

/* An old directory, the raw listing of it, and the new directory that is to follow. */
typedef struct Pair {
        int old_fd, old_upper_fd, new_fd, new_upper_fd;
        Changes changes;
        RawList list;
} Pair;

static void pair_done(Pair *p) {
        (void) fd_close(p->old_fd);
        (void) fd_close(p->old_upper_fd);
        (void) fd_close(p->new_fd);
        (void) fd_close(p->new_upper_fd);
        raw_list_done(&p->list);
        changes_done(&p->changes);
}

/* 1: the old directory is not where it was; its parent, which is compared as well, knows more. */
static int pair_open(Exchange *x, const Node *n, Pair *p) {
        _cleanup_free_ char *path = node_path(n);

        if (!path)
                return n->entry || n == x->tree->root ? -ENOMEM : 1;
        p->old_fd = open_dir_beneath(x->old_fd, path);
        p->old_upper_fd = open_dir_beneath(x->old_upper_fd, path);
        if (errno_is_gone(p->old_fd) || p->old_upper_fd == -ENOENT || p->old_upper_fd == -ENOTDIR)
                return 1;
        if (p->old_fd < 0 || p->old_upper_fd < 0)
                return p->old_fd < 0 ? p->old_fd : p->old_upper_fd;
        p->new_fd = open_dir_beneath(x->new_fd, path);
        p->new_upper_fd = open_dir_beneath(x->new_upper_fd, path);
        if (p->new_fd < 0 || p->new_upper_fd < 0)
                return p->new_fd < 0 ? p->new_fd : p->new_upper_fd;
        return raw_list_changes(p->old_upper_fd, &p->changes, &p->list);
}

/* Moves a directory's new tree to the quarantine and its node to the detached ones, until it is known
 * whether it appeared somewhere else. */
static int park_directory(Exchange *x, Entry *e, int new_fd) {
        char quarantine[16];
        Node *m = e->dir;

        staging_new_name(&x->staging, quarantine);
        if (e->is_placed &&
            renameat2(new_fd, e->name, x->staging.quarantine_fd, quarantine, RENAME_NOREPLACE) < 0 &&
            errno != ENOENT)
                return -errno;
        node_detach(m);
        m->quarantine = (unsigned) strtoul(quarantine, NULL, 10);
        return 0;
}

/* The directory of an undo holds a whiteout for each name it is to have. Where something of our own users
 * was gone before it was put there, that would hide what the lower gets under its name. Through the overlay,
 * as the name may have been looked up: the kernel leaves a whiteout again if the lower has the name by now.
 */
static int uncover(const Exchange *x, const Node *n, const Entry *e, int new_fd) {
        if (!x->tree->is_undo || !n->lower || !e->is_local || e->is_placed)
                return 0;
        if (mknodat(new_fd, e->name, S_IFREG | 0600, 0) < 0)
                return errno == EEXIST ? 0 : -errno;
        return unlinkat(new_fd, e->name, 0) < 0 ? -errno : 0;
}

/* Takes an entry out of the new tree. */
static int take_away(Exchange *x, Node *n, Entry *e, Pair *p) {
        int r = uncover(x, n, e, p->new_fd);

        if (r < 0)
                return r;
        /* It may have gone between being listed and being looked at, and so been taken for the lower's. */
        if (n->is_merged && !x->tree->is_undo && !e->is_local)
                e->is_local = difference_is_unknown_below(n, e->name, &x->lower);
        if (e->dir)
                return park_directory(x, e, p->new_fd); /* drops the entry */
        if (e->is_placed && unlinkat(p->new_fd, e->name, 0) < 0 && errno != ENOENT)
                return -errno;
        entry_drop(n, e);
        return 0;
}

/* Whoever was to dress it may not have found it where it was. */
static int mark_attributes_dirty(Node *n, void *userdata) {
        n->is_attributes_dirty = true;
        return 0;
}

/* A directory that the tree knows under another name: its new tree follows. */
static int follow_move(Exchange *x, Node *m, Node *n, const char *name, Pair *p) {
        _cleanup_free_ char *from = node_path(m);
        char quarantine[16];
        int r;

        if (m->entry) {
                if (!from)
                        return -ENOMEM;
                r = renameat2(x->new_fd, from, p->new_fd, name, RENAME_NOREPLACE);
        } else {
                (void) snprintf(quarantine, sizeof(quarantine), "%u", m->quarantine);
                r = renameat2(x->staging.quarantine_fd, quarantine, p->new_fd, name, RENAME_NOREPLACE);
        }
        if (r < 0)
                return -errno;
        (void) mark_attributes_dirty(m, NULL);
        return node_attach(m, n, name);
}

static int apply_addition(Exchange *x, Node *n, const RawEntry *raw, Pair *p) {
        Node *known = tree_find_old_at(x->tree, p->old_upper_fd, raw);
        Entry *e;
        int r;

        if (is_staging_name(raw->name)) {
                node_block(n, DIRECTORY_PENDING, "it holds the old tree '%s'", raw->name);
                return -EUCLEAN;
        }
        if (known && known != x->tree->root)
                return follow_move(x, known, n, raw->name, p);
        if (raw->type == DT_WHT) {
                r = node_add(n, raw->name, DT_WHT, NULL);
                return r == -EEXIST ? 0 : r;
        }
        r = node_add_late(n, raw->name, raw->type, &e);
        if (r < 0)
                return r;
        e->is_seen = true;
        if (raw->type == DT_DIR)
                return build_late(x, e->dir);
        e->inode = raw->inode;
        r = place_entry(x, n, e, p->old_fd, p->new_fd, p->new_upper_fd, /* copy_up= */ false);
        if (r == 1)
                node_recheck(n);
        return r == 1 ? 0 : r;
}

static int compare_entry(Exchange *x, Node *n, const RawEntry *raw, Pair *p) {
        Entry *e = node_find(n, raw->name);
        int r;

        if (e && e->type == raw->type &&
            (raw->type == DT_WHT ||
             (e->is_placed &&
              (e->dir ? tree_find_old_at(x->tree, p->old_upper_fd, raw) == e->dir
                      : e->inode == raw->inode)))) {
                e->is_seen = true;
                return 0;
        }
        if (e && e->type != DT_WHT) {
                r = take_away(x, n, e, p);
                if (r < 0)
                        return r;
        }
        r = apply_addition(x, n, raw, p);
        e = r < 0 ? NULL : node_find(n, raw->name);
        if (e)
                e->is_seen = true;
        return r;
}

/* A lower name that has neither an entry nor a whiteout in the upper was never copied up: it is still there.
 */
static int is_lower_only(const Node *n, const Entry *e, const Pair *p) {
        struct stat st;

        if (!n->is_merged || e->is_local)
                return 0;
        if (fstatat(p->old_fd, e->name, &st, AT_SYMLINK_NOFOLLOW) >= 0)
                return 1;
        return errno == ENOENT ? 0 : -errno;
}

static int place_again(Exchange *x, Node *n, Entry *e, Pair *p) {
        int r;

        if (e->dir)
                return e->is_placed ? 0 : build_late(x, e->dir);
        e->inode = 0;
        r = e->is_placed ? 0
                         : place_entry(x, n, e, p->old_fd, p->new_fd, p->new_upper_fd, /* copy_up= */ false);
        if (r == 1)
                node_recheck(n);
        return r == 1 ? 0 : r;
}

static int drop_unless_seen(Exchange *x, Node *n, Entry *e, Pair *p) {
        bool is_gone = !e->is_seen && e->type != DT_WHT;
        int r;

        e->is_seen = false;
        if (!is_gone)
                return 0;
        r = is_lower_only(n, e, p);
        if (r < 0)
                return r;
        return r > 0 ? place_again(x, n, e, p) : take_away(x, n, e, p);
}

static int drop_unseen(Exchange *x, Node *n, Pair *p) {
        Entry *e, *next;
        int r = 0;

        for (unsigned i = 0; r >= 0 && !p->changes.all && i < p->changes.n; i++) {
                e = node_find(n, p->changes.names[i]);
                r = e ? drop_unless_seen(x, n, e, p) : 0;
        }
        if (r < 0 || !p->changes.all)
                return r;
        HASH_ITER(hh, n->entries, e, next) {
                r = drop_unless_seen(x, n, e, p);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int sync_node(Exchange *x, Node *n) {
        _cleanup_(pair_done) Pair p = {
                .old_fd = -EBADF,
                .old_upper_fd = -EBADF,
                .new_fd = -EBADF,
                .new_upper_fd = -EBADF,
                .changes = node_take_changes(n),
        };
        int r = pair_open(x, n, &p);

        if (r == 1)
                n->is_deferred = true;
        if (r != 0)
                return r == 1 ? 0 : r;
        for (size_t i = 0; i < p.list.n; i++) {
                r = compare_entry(x, n, p.list.items + i, &p);
                if (r < 0)
                        return r;
        }
        n->is_times_dirty = true;
        x->is_manifest_stale = x->is_record_stale = true;
        return drop_unseen(x, n, &p);
}

/* What left the tree for good. Its node and its new tree go; the watch too, unless the directory was found
 * again. */
static int discard_detached(Exchange *x) {
        while (x->tree->detached) {
                Node *n = x->tree->detached;
                _cleanup_close_ int fd = -EBADF;
                char name[16];

                (void) snprintf(name, sizeof(name), "%u", n->quarantine);
                fd = open_dir_beneath(x->staging.quarantine_fd, name);
                if (fd >= 0) {
                        int r = dir_empty(fd);
                        if (r < 0)
                                return r;
                        if (unlinkat(x->staging.quarantine_fd, name, AT_REMOVEDIR) < 0)
                                return -errno;
                }
                tree_drop_detached(x->tree, n);
        }
        return 0;
}

int sync_dirty(Exchange *x) {
        Node *n;

        /* Parents first: where a directory went is seen in its parents. */
        while ((n = tree_next_dirty(x->tree))) {
                int r = sync_node(x, n);

                if (r < 0 && r != -EAGAIN)
                        r = exchange_error(x, CALL_READ, r, n, -EBADF, NULL, "take up changes in");
                if (r < 0)
                        return r;
                if (exchange_should_stop(x))
                        return -EAGAIN;
        }
        return discard_detached(x);
}
