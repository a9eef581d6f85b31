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

/* 1: the old directory is not where it was; its parent, which is compared as well, knows more. */
static int open_sides(Sides *s) {
        Exchange *x = s->x;
        int r = node_open_old(x, s->node, &s->old);

        if (errno_is_gone(r))
                return 1;
        if (r >= 0 && s->changes.all) /* what was watched may have been another one */
                r = watch_add(x, s->node, s->old.fd);
        if (r >= 0)
                r = node_open_pair(s->node, x->new, &s->new);
        return r < 0 ? r : raw_list_changes(s->old.upper_fd, &s->changes, &s->list);
}

/* Moves a directory's new tree to the quarantine and its node to the detached ones, until it is known
 * whether it appeared somewhere else. */
static int park_directory(Sides *s, Entry *e) {
        Staging *staging = &s->x->staging;
        char quarantine[16];
        Node *m = e->dir;

        staging_new_name(staging, quarantine);
        if (e->is_placed &&
            renameat2(s->new.fd, e->name, staging->quarantine.fd, quarantine, RENAME_NOREPLACE) < 0 &&
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
static int uncover(const Sides *s, const Entry *e) {
        if (!s->x->tree->is_undo || !s->node->lower || !e->is_local || e->is_placed)
                return 0;
        if (mknodat(s->new.fd, e->name, S_IFREG | 0600, 0) < 0)
                return errno == EEXIST ? 0 : -errno;
        return unlinkat(s->new.fd, e->name, 0) < 0 ? -errno : 0;
}

/* Takes an entry out of the new tree. */
static int take_away(Sides *s, Entry *e) {
        int r = uncover(s, e);

        if (r < 0)
                return r;
        /* It may have gone between being listed and being looked at, and so been taken for the lower's. */
        if (s->node->is_merged && !s->x->tree->is_undo && !e->is_local)
                e->is_local = difference_is_unknown_below(s->node, e->name, &s->x->lower);
        if (e->dir)
                return park_directory(s, e); /* drops the entry */
        if (e->is_placed && unlinkat(s->new.fd, e->name, 0) < 0 && errno != ENOENT)
                return -errno;
        entry_drop(s->node, e);
        return 0;
}

/* A directory that the tree knows under another name: its new tree follows. */
static int follow_move(Sides *s, Node *m, const char *name) {
        _cleanup_free_ char *from = node_path(m);
        char quarantine[16];
        int r;

        if (m->entry) {
                if (!from)
                        return -ENOMEM;
                r = renameat2(s->x->new.fd, from, s->new.fd, name, RENAME_NOREPLACE);
        } else {
                (void) snprintf(quarantine, sizeof(quarantine), "%u", m->quarantine);
                r = renameat2(s->x->staging.quarantine.fd, quarantine, s->new.fd, name, RENAME_NOREPLACE);
        }
        if (r < 0)
                return -errno;
        return node_attach(m, s->node, name);
}

static int add_entry(Sides *s, const RawEntry *raw) {
        Node *known = tree_find_old_at(s->x->tree, s->old.upper_fd, raw), *n = s->node;
        Entry *e;
        int r;

        if (is_staging_name(raw->name)) {
                node_block(n, DIRECTORY_PENDING, "it holds the old tree '%s'", raw->name);
                return RESULT_BLOCKED;
        }
        if (known && known != s->x->tree->root)
                return follow_move(s, known, raw->name);
        if (raw->type == DT_WHT) {
                r = node_add(n, raw->name, DT_WHT, NULL);
                return r == -EEXIST ? 0 : r;
        }
        r = node_add_late(n, raw->name, raw->type, &e);
        if (r < 0)
                return r;
        e->is_seen = true;
        if (raw->type == DT_DIR)
                return build_late(s->x, e->dir);
        e->inode = raw->inode;
        return place_entry(s, e, /* copy_up= */ false);
}

static int compare_entry(Sides *s, const RawEntry *raw) {
        Entry *e = node_find(s->node, raw->name);
        int r;

        if (e && e->type == raw->type &&
            (raw->type == DT_WHT ||
             (e->is_placed &&
              (e->dir ? tree_find_old_at(s->x->tree, s->old.upper_fd, raw) == e->dir
                      : e->inode == raw->inode)))) {
                e->is_seen = true;
                return 0;
        }
        if (e && e->type != DT_WHT) {
                r = take_away(s, e);
                if (r < 0)
                        return r;
        }
        r = add_entry(s, raw);
        e = r < 0 ? NULL : node_find(s->node, raw->name);
        if (e)
                e->is_seen = true;
        return r;
}

/* A lower name that has neither an entry nor a whiteout in the upper was never copied up: it is still there.
 */
static int is_lower_only(const Sides *s, const Entry *e, unsigned char *ret_type) {
        struct stat st;

        if (!s->node->is_merged || e->is_local)
                return 0;
        if (fstatat(s->old.fd, e->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        *ret_type = IFTODT(st.st_mode);
        return 1;
}

/* What was placed was copied up: so it is of another directory, to which the path led at that moment. The
 * same goes for an entry of another kind, and maybe for what is known of a directory. */
static int place_again(Sides *s, Entry *e, unsigned char type) {
        char name[NAME_MAX + 1];
        int r;

        if (!e->is_placed && !e->dir && e->type == type) {
                e->inode = 0;
                return place_entry(s, e, /* copy_up= */ false);
        }
        (void) strcpy(name, e->name); /* a name of a directory entry is at most NAME_MAX */
        r = take_away(s, e);
        if (r >= 0)
                r = node_add_late(s->node, name, type, &e);
        if (r < 0)
                return r;
        return e->dir ? build_late(s->x, e->dir) : place_entry(s, e, /* copy_up= */ false);
}

static int drop_unless_seen(Sides *s, Entry *e) {
        bool is_gone = !e->is_seen && e->type != DT_WHT;
        unsigned char type = DT_UNKNOWN;
        int r;

        e->is_seen = false;
        if (!is_gone)
                return 0;
        r = is_lower_only(s, e, &type);
        if (r < 0)
                return r;
        return r > 0 ? place_again(s, e, type) : take_away(s, e);
}

static int drop_unseen(Sides *s) {
        int r = 0;

        if (!s->changes.all) {
                for (unsigned i = 0; r >= 0 && i < s->changes.n; i++) {
                        Entry *e = node_find(s->node, s->changes.names[i]);

                        r = e ? drop_unless_seen(s, e) : 0;
                }
                return r;
        }
        ENTRY_FOREACH (s->node, e)
                if (r >= 0)
                        r = drop_unless_seen(s, e);
        return r;
}

static int sync_node(Exchange *x, Node *n) {
        _cleanup_(sides_done) Sides s = SIDES_INIT(x, n);
        int r;

        s.changes = node_take_changes(n);
        r = open_sides(&s);
        if (r == 1)
                n->is_deferred = true;
        if (r != 0)
                return r == 1 ? 0 : r;
        for (size_t i = 0; r >= 0 && i < s.list.n; i++)
                r = compare_entry(&s, s.list.items + i);
        if (r < 0)
                return r;
        n->is_times_dirty = true;
        x->is_manifest_stale = x->is_record_stale = true;
        return drop_unseen(&s);
}

/* What left the tree for good. Its node and its new tree go; the watch too, unless the directory was found
 * again. */
static int discard_detached(Exchange *x) {
        while (x->tree->detached) {
                Node *n = x->tree->detached;
                _cleanup_close_ int fd = -EBADF;
                char name[16];

                (void) snprintf(name, sizeof(name), "%u", n->quarantine);
                fd = open_dir_beneath(x->staging.quarantine.fd, name);
                if (fd >= 0) {
                        int r = dir_empty(fd);
                        if (r < 0)
                                return r;
                        if (unlinkat(x->staging.quarantine.fd, name, AT_REMOVEDIR) < 0)
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

                if (r < 0 && r != EXCHANGE_ANEW)
                        r = exchange_error(x, CALL_READ, r, n, -EBADF, NULL, "take up changes in");
                if (r < 0)
                        return r;
                if (batch_should_stop(&x->batch))
                        return -ECANCELED;
        }
        return discard_detached(x);
}
