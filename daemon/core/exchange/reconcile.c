/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* After the exchange: what still ended up in the old tree (by whoever had looked the directory up before, or
 * stands in it; docs/overlayfs.md 5.4) is done again in the new one, which others use by now. It decides
 * nothing about a name by itself (replay-rules.h), and does not remove the old tree (retire.c). All that is
 * new is put into place before anything is removed, so what was renamed is never missing. Steps are
 * idempotent: after a crash the same comparison goes on. */

/* A name that was made or replaced in the old tree appears in the new one if its place there is free, or
 * still holds what was put there; else it stays where it is, and is kept in the end. A name that is gone
 * from the old tree leaves the new one, if that still holds what was put there, as long as only operations
 * that were under way at the exchange can have done it. In a tree that is kept for those who stand in it
 * (kept.is_theirs) it could be anything, so it changes nothing. The tree says what was put where. */
#include <fcntl.h>
#include <sys/stat.h>

#include "core/exchange/reconcile-internal.h"
#include "core/upper/names.h"

/* Before this many directories nobody waits for a cancel: what is replayed at once after the exchange is. */
#define CANCEL_AFTER 256

static int open_new_by_path(const Exchange *x, const Node *n, DirectoryPair *ret) {
        _cleanup_pair_ DirectoryPair p = DIRECTORY_PAIR_INIT;
        struct stat st;

        if (node_open_pair(n, x->new, &p) < 0)
                return -ESTALE;
        if (fstat(p.upper_fd, &st) < 0)
                return -errno;
        /* Inode numbers of removed directories are used again. */
        if (st.st_ino != n->new_inode || st.st_nlink == 0 || !pair_is(&p, n->new_handle))
                return -ESTALE;
        *ret = TAKE_PAIR(p);
        return 0;
}

/* The new directory that stands for n, wherever in the overlay its users have moved it. -ESTALE: gone for
 * good, RECONCILE_LATER: on its way. */
static int open_new(const Exchange *x, const Node *n, DirectoryPair *ret) {
        int r = open_new_by_path(x, n, ret);

        return r == -ESTALE ? pair_open_handle(context_root(x->context), n->new_handle, ret) : r;
}

/* The old tree of a directory below, moved along by its own keeper. Any other name is a user's, however it
 * begins. */
static bool is_kept_tree(const Exchange *x, const RawEntry *raw) {
        const char *id = raw->type == DT_DIR ? old_tree_id(raw->name) : NULL;

        return id && faccessat(x->staging.base_fd, id, F_OK, AT_SYMLINK_NOFOLLOW) >= 0;
}

static int bring_in_line(Sides *s, Entry *e, const RawEntry *raw) {
        const Exchange *x = s->x;
        const Node *node =
                e && e->dir && raw->type == DT_DIR ? tree_find_old_at(x->tree, s->old.upper_fd, raw) : NULL;

        return replay_addition(
                s, e, raw,
                replay_found(e, raw, node, s->new.fd >= 0, x->kept.is_theirs, x->kept.is_final_look));
}

static int compare_entry(Sides *s, const RawEntry *raw) {
        Entry *e = node_find(s->node, raw->name);
        int r;

        if (raw->type == DT_WHT || is_kept_tree(s->x, raw))
                return 0; /* an entry with a whiteout is one that is not seen */
        r = bring_in_line(s, e, raw);
        e = node_find(s->node, raw->name);
        if (e) {
                e->is_seen = true;
                e->is_gone = false;
        }
        return r;
}

static void tell_removals(Exchange *x) {
        if (x->beside.is_there && !x->kept.has_told_removals)
                context_note(
                        x->context, x->tree->path,
                        "names were removed or renamed in the old tree that stands beside it as '%s'; the "
                        "directory keeps them",
                        x->beside.name);
        x->kept.has_told_removals |= x->beside.is_there;
}

static void note_unless_seen(Sides *s, Entry *e) {
        bool was_seen = e->is_seen;
        Missed missed = replay_missed(e, s->x->kept.is_theirs, s->x->phase == PHASE_REMOVE);

        e->is_seen = false;
        if (was_seen)
                return;
        if (e->type != DT_WHT)
                e->aside = 0;
        if (missed == MISSED_FORGET)
                entry_drop(s->node, e);
        else if (missed == MISSED_GONE)
                node_note_gone(s->node, e);
        else if (missed == MISSED_KEPT)
                tell_removals(s->x);
}

static void note_unseen(Sides *s) {
        for (unsigned i = 0; !s->changes.all && i < s->changes.n; i++) {
                Entry *e = node_find(s->node, s->changes.names[i]);

                if (e)
                        note_unless_seen(s, e);
        }
        if (!s->changes.all)
                return;
        ENTRY_FOREACH (s->node, e)
                note_unless_seen(s, e);
}

/* -ENOENT: it was moved or removed, and its parent tells. */
static int open_old(Sides *s) {
        return node_open_old(s->x, s->node, &s->old) < 0 ? -ENOENT : 0;
}

static int reconcile_sides(Sides *s) {
        int r = open_old(s);

        if (r >= 0)
                r = raw_list_changes(s->old.upper_fd, &s->changes, &s->list);
        if (r >= 0)
                r = open_new(s->x, s->node, &s->new);
        if (r == -ESTALE) /* its users removed it for good */
                r = 0;
        for (size_t i = 0; r >= 0 && i < s->list.n; i++)
                r = compare_entry(s, s->list.items + i);
        if (r >= 0)
                note_unseen(s);
        return r;
}

static void clear_seen(Node *n) {
        ENTRY_FOREACH (n, e)
                e->is_seen = false;
}

static int reconcile_node(Exchange *x, Node *n) {
        _cleanup_(sides_done) Sides s = SIDES_INIT(x, n);
        int r;

        s.changes = node_take_changes(n);
        x->kept.was_used = x->is_manifest_stale = true;
        r = reconcile_sides(&s);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                clear_seen(n);
        n->is_deferred |= r < 0; /* to be done again, all of it */
        return r == RECONCILE_LATER ? 0 : r;
}

int remove_from_new(Sides *s, Entry *e) {
        int r = 0;

        if (e->is_placed)
                r = e->dir ? take_out_directory(s->x, s->new, e) : take_out(s->x, s->new, s->node, e);
        if (r < 0)
                return r;
        entry_drop(s->node, e);
        return 0;
}

static bool is_there(int dfd, const char *name) {
        struct stat st;

        return fstatat(dfd, name, &st, AT_SYMLINK_NOFOLLOW) >= 0 &&
                !(S_ISCHR(st.st_mode) && st.st_rdev == 0);
}

static int forget_gone(Exchange *x, Node *n) {
        _cleanup_(sides_done) Sides s = SIDES_INIT(x, n);
        int r = open_old(&s);

        if (r >= 0)
                r = open_new(x, n, &s.new);
        n->is_deferred |= r == RECONCILE_LATER;
        ENTRY_FOREACH (n, e) {
                bool is_gone = e->is_gone;

                e->is_gone = false;
                if (!is_gone || (r < 0 && r != -ESTALE))
                        continue;
                if (r == -ESTALE) /* its users have removed all of it */
                        entry_drop(n, e);
                else if (is_there(s.old.upper_fd, e->name)) /* again */
                        node_note_change(n, e->name);
                else
                        r = remove_from_new(&s, e);
        }
        return r == -ESTALE || r == RECONCILE_LATER || r == -ENOENT ? 0 : r;
}

/* 1: what was made meanwhile comes first. */
static int forget_all_gone(Exchange *x) {
        Node *n;

        while ((n = tree_next_gone(x->tree))) {
                int r = forget_gone(x, n);
                if (r < 0)
                        return r;
        }
        return x->tree->gone != NULL;
}

int reconcile_dirty(Exchange *x) {
        unsigned n_done = 0;
        Node *n;
        int r;

        do {
                while ((n = tree_next_dirty(x->tree))) {
                        r = reconcile_node(x, n);
                        if (r < 0)
                                return r;
                        if (++n_done > CANCEL_AFTER && context_is_canceled(x->context))
                                return -ECANCELED;
                }
                r = forget_all_gone(x);
        } while (r > 0);
        return r;
}

static int make_dirty(Node *n, void *userdata) {
        node_recheck(n);
        return 0;
}

int reconcile_all(Exchange *x) {
        (void) tree_foreach(x->tree, make_dirty, NULL);
        return reconcile_dirty(x);
}

int reconcile_events(Exchange *x) {
        int r;

        (void) tree_resume_deferred(x->tree);
        r = watch_drain(x);
        return r < 0 ? r : reconcile_dirty(x);
}
