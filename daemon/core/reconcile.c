/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* After the exchange: what still ended up in the old tree (by whoever had looked the directory up before, or
 * stands in it) is done again in the new one, which others use by now. Every step says
 * what it expects to find and leaves alone, or keeps, whatever it does not: nothing that somebody made is
 * deleted.
 *
 * The tree says what both sides held last. Steps are idempotent: after a crash the same comparison goes on.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "core/reconcile-internal.h"

/* Before this many directories nobody waits for a cancel: what is replayed at once after the exchange is. */
#define CANCEL_AFTER 256
/* Rounds in which a directory that moves around in the old tree may be met again. */
#define CLAIM_ROUNDS 3

static void sides_done(Sides *s) {
        (void) fd_close(s->old_fd);
        (void) fd_close(s->old_upper_fd);
        (void) fd_close(s->new_fd);
        (void) fd_close(s->new_upper_fd);
        raw_list_done(&s->list);
        changes_done(&s->changes);
}

static bool is_handle_of(int fd, const char *handle) {
        return !handle || is_handle_at(fd, "", handle);
}

static int open_new_by_path(Exchange *x, const Node *n, const char *path, int *ret_fd, int *ret_upper_fd) {
        _cleanup_close_ int fd = open_dir_beneath(x->new_fd, path),
                            upper_fd = open_dir_beneath(x->new_upper_fd, path);
        struct stat st;

        if (fd < 0 || upper_fd < 0)
                return -ESTALE;
        if (fstat(upper_fd, &st) < 0)
                return -errno;
        /* Inode numbers of removed directories are used again. */
        if (st.st_ino != n->new_inode || st.st_nlink == 0 || !is_handle_of(upper_fd, n->new_handle))
                return -ESTALE;
        *ret_fd = TAKE_FD(fd);
        *ret_upper_fd = TAKE_FD(upper_fd);
        return 0;
}

/* Users may have moved the directory anywhere in the overlay; what stands in the upper stands at the same
 * path there. */
static int open_new_by_handle(Exchange *x, const char *handle, int *ret_fd, int *ret_upper_fd) {
        _cleanup_close_ int at = -EBADF, fd = -EBADF, upper_fd = -EBADF;
        _cleanup_free_ char *path = NULL;

        if (!handle)
                return -ESTALE;
        at = file_handle_open(x->site->upper_fd, handle, &path);
        if (at < 0)
                return at == -ENOENT || at == -EXDEV ? -ESTALE : at;
        fd = open_dir_beneath(x->site->root_fd, path);
        upper_fd = open_dir_beneath(x->site->upper_fd, path);
        if (fd < 0 || upper_fd < 0 || !is_handle_of(upper_fd, handle))
                return -EAGAIN;
        *ret_fd = TAKE_FD(fd);
        *ret_upper_fd = TAKE_FD(upper_fd);
        return 0;
}

int node_open_new(Exchange *x, const Node *n, int *ret_fd, int *ret_upper_fd) {
        _cleanup_free_ char *path = node_path(n);
        int r = -ESTALE;

        if (path)
                r = open_new_by_path(x, n, path, ret_fd, ret_upper_fd);
        return r == -ESTALE ? open_new_by_handle(x, n->new_handle, ret_fd, ret_upper_fd) : r;
}

/* What left the old tree's name leaves the new one, too, but for what its users made in it since the
 * exchange. */
static int forget(Sides *s, Entry *e) {
        int r = 0;

        if (e->dir && is_on_its_way(s->x, e->dir))
                return -EAGAIN;
        if (e->dir && is_elsewhere_in_old(s->x, e->dir))
                return bury(s->x, s->new_fd, s->new_upper_fd, e); /* drops the entry */
        if (e->is_placed && e->type != DT_WHT)
                r = e->dir ? prune_directory(s->x, s->new_fd, s->new_upper_fd, e)
                           : take_out(s->x, s->new_fd, s->new_upper_fd, s->node, e);
        else if (e->dir)
                r = give_back(s->x, e->dir, s->new_fd, s->new_upper_fd, e->name);
        if (r == -EINVAL && e->dir)
                r = 0;                  /* give_back(): the old one lies in the new one, which stays whole */
        if (r < 0 || (r > 0 && e->dir)) /* or it stands there again */
                return r < 0 ? r : 0;
        entry_drop(s->node, e);
        return 0;
}

/* Directories seen elsewhere in the old tree must not be removed as gone: moves come first. */
static int compare_moves(Sides *s) {
        for (size_t i = 0; i < s->list.n; i++) {
                const RawEntry *raw = s->list.items + i;
                Node *known = tree_find_old_at(s->x->tree, s->old_upper_fd, raw);
                Entry *e = node_find(s->node, raw->name);
                int r;

                if (!known || known == s->x->tree->root || (e && e->dir == known))
                        continue;
                /* The place may be taken by what is to leave it. */
                r = e && e->type != DT_WHT ? forget(s, e) : 0;
                known = tree_find_old_at(s->x->tree, s->old_upper_fd, raw); /* it may have gone with e */
                if (r >= 0 && known)
                        r = follow_move(s, known, raw);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* The old tree of a directory below, moved along by its own keeper. Any other name is a user's, however it
 * begins. */
static bool is_kept_tree(const Exchange *x, const RawEntry *raw) {
        const char *id = raw->type == DT_DIR ? old_tree_id(raw->name) : NULL;

        return id && faccessat(x->staging.base_fd, id, F_OK, AT_SYMLINK_NOFOLLOW) >= 0;
}

static bool is_in_line(Sides *s, const Entry *e, const RawEntry *raw) {
        if (!e->is_placed || e->type != raw->type)
                return false;
        return e->dir ? tree_find_old_at(s->x->tree, s->old_upper_fd, raw) == e->dir
                      : e->inode == raw->inode;
}

static int compare_new(Sides *s, Entry *e, const RawEntry *raw) {
        int r = e && e->type != DT_WHT ? forget(s, e) : 0;

        if (r >= 0)
                r = take_up(s, raw);
        e = node_find(s->node, raw->name);
        if (e)
                e->is_seen = true;
        return r;
}

static int compare_entry(Sides *s, const RawEntry *raw) {
        Entry *e = node_find(s->node, raw->name);
        int r;

        if (raw->type == DT_WHT || is_kept_tree(s->x, raw))
                return 0; /* an entry with a whiteout is one that is not seen */
        if (e && is_in_line(s, e, raw)) {
                e->is_seen = true;
                e->missing = MISSING_NOT;
                return 0;
        }
        if (!e || !e->is_placed || e->dir || raw->type == DT_DIR || e->type == DT_WHT)
                return compare_new(s, e, raw);
        r = replace(s, e, raw);
        e = node_find(s->node, raw->name);
        if (e)
                e->is_seen = true;
        return r;
}

/* Deletions in a tree that path users reach wait; a directory that moved does not. While we remove the tree
 * ourselves and nobody stands in it, whoever deletes there means the tree. */
static bool must_wait(const Sides *s, Entry *e) {
        if (!e->is_placed || s->x->beside_usec == 0)
                return false;
        if (e->dir && is_elsewhere_in_old(s->x, e->dir))
                return false;
        if (s->x->phase < PHASE_REMOVE)
                return true;
        e->is_placed = false;
        return false;
}

static void wait_for(Exchange *x, Entry *e) {
        e->missing = MISSING_WAITS;
        x->missing_usec = x->missing_usec ?: now_monotonic_usec();
}

static int forget_unless_seen(Sides *s, Entry *e) {
        bool is_gone = !e->is_seen && e->type != DT_WHT;

        e->is_seen = false;
        if (!is_gone)
                return 0;
        if (e->dir && is_on_its_way(s->x, e->dir)) {
                s->node->is_deferred = true;
                return 0;
        }
        if (!must_wait(s, e))
                return forget(s, e);
        wait_for(s->x, e);
        return 0;
}

static int forget_unseen(Sides *s) {
        Entry *e, *next;
        int r = 0;

        for (unsigned i = 0; r >= 0 && !s->changes.all && i < s->changes.n; i++) {
                e = node_find(s->node, s->changes.names[i]);
                r = e ? forget_unless_seen(s, e) : 0;
        }
        if (r < 0 || !s->changes.all)
                return r;
        HASH_ITER(hh, s->node->entries, e, next) {
                r = forget_unless_seen(s, e);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int sides_open(Sides *s) {
        Exchange *x = s->x;
        _cleanup_free_ char *path = node_path(s->node);

        if (!path)
                return -EAGAIN;
        s->old_fd = open_dir_beneath(x->old_fd, path);
        s->old_upper_fd = open_dir_beneath(x->old_upper_fd, path);
        if (s->old_fd < 0 || s->old_upper_fd < 0 || !is_handle_of(s->old_upper_fd, s->node->old_handle))
                return -EAGAIN; /* moved or removed: its parent tells */
        return raw_list_changes(s->old_upper_fd, &s->changes, &s->list);
}

/* The new directory was removed for good by its users: nothing can be replayed there. What the new tree
 * never had is kept, the rest they have removed. */
static int keep_unplaced(Sides *s) {
        for (size_t i = 0; i < s->list.n; i++) {
                const RawEntry *raw = s->list.items + i;
                Entry *e = node_find(s->node, raw->name);
                Node *known = tree_find_old_at(s->x->tree, s->old_upper_fd, raw);
                int r = 0;

                if (raw->type == DT_WHT || is_kept_tree(s->x, raw) || (e && is_in_line(s, e, raw)))
                        continue;
                if (e && e->dir) /* it may turn up elsewhere */
                        node_detach(e->dir);
                else if (e)
                        entry_drop(s->node, e);
                if (known && known != s->x->tree->root)
                        r = node_attach(known, s->node, raw->name);
                else
                        r = keep_from_old(s, raw, "made in the old tree after the new one was removed");
                if (r < 0)
                        return r;
        }
        return 0;
}

static int reconcile_sides(Sides *s) {
        int r = sides_open(s);

        if (r >= 0)
                r = node_open_new(s->x, s->node, &s->new_fd, &s->new_upper_fd);
        if (r == -ESTALE)
                return keep_unplaced(s);
        if (r >= 0)
                r = compare_moves(s);
        for (size_t i = 0; r >= 0 && i < s->list.n; i++)
                r = compare_entry(s, s->list.items + i);
        return r < 0 ? r : forget_unseen(s);
}

static void unsee(Node *n) {
        Entry *e, *next;

        HASH_ITER(hh, n->entries, e, next) {
                e->is_seen = false;
        }
}

static int reconcile_node(Exchange *x, Node *n) {
        _cleanup_(sides_done) Sides s = {
                .x = x,
                .node = n,
                .old_fd = -EBADF,
                .old_upper_fd = -EBADF,
                .new_fd = -EBADF,
                .new_upper_fd = -EBADF,
                .changes = node_take_changes(n),
        };
        int r;

        x->was_used = x->is_manifest_stale = true;
        r = reconcile_sides(&s);
        if (r < 0)
                unsee(n);
        if (r == -EAGAIN) {
                n->is_deferred = true;
                return 0;
        }
        n->is_deferred |= r < 0; /* to be done again, all of it */
        return r;
}

typedef struct Search {
        Node *next;
        unsigned depth;
        bool want_gone;
} Search;

static bool has_gone(const Node *n) {
        Entry *e, *next;

        HASH_ITER(hh, n->entries, e, next) {
                if (e->missing == MISSING_GONE)
                        return true;
        }
        return false;
}

static int find_next(Node *n, void *userdata) {
        Search *w = userdata;
        unsigned depth;

        if (w->want_gone ? !has_gone(n) : !node_has_changes(n))
                return 0;
        depth = node_depth(n);
        if (!w->next || depth < w->depth) {
                w->next = n;
                w->depth = depth;
        }
        return 0;
}

static Node *next_node(Exchange *x, bool want_gone) {
        Search w = { .want_gone = want_gone };

        (void) tree_foreach(x->tree, find_next, &w);
        return w.next;
}

static int forget_gone(Exchange *x, Node *n) {
        _cleanup_(sides_done) Sides s = {
                .x = x,
                .node = n,
                .old_fd = -EBADF,
                .old_upper_fd = -EBADF,
                .new_fd = -EBADF,
                .new_upper_fd = -EBADF,
        };
        int opened = node_open_new(x, n, &s.new_fd, &s.new_upper_fd), r = 0;
        Entry *e, *next;

        HASH_ITER(hh, n->entries, e, next) {
                int k = opened;

                if (e->missing != MISSING_GONE)
                        continue;
                e->missing = MISSING_NOT;
                if (opened == -ESTALE) { /* its users have removed all of it */
                        e->is_placed = false;
                        continue;
                }
                if (opened >= 0)
                        k = forget(&s, e);
                if (k >= 0)
                        continue;
                wait_for(x, e); /* something is on its way: decided already, but not done */
                r = k == -EAGAIN ? r : k;
        }
        return r;
}

int reconcile_gone(Exchange *x) {
        Node *n;

        while ((n = next_node(x, /* want_gone= */ true))) {
                int r = forget_gone(x, n);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int reconcile_names(Exchange *x) {
        unsigned n_done = 0;
        Node *n;

        while ((n = next_node(x, /* want_gone= */ false))) {
                int r = reconcile_node(x, n);
                if (r < 0)
                        return r;
                if (++n_done > CANCEL_AFTER && site_is_canceled(x->site))
                        return -ECANCELED;
        }
        return 0;
}

static int make_dirty(Node *n, void *userdata) {
        n->changes.all = true;
        return 0;
}

/* A directory that nobody claims left the old tree after it was seen there. */
static int drop_detached(Exchange *x, Node *m) {
        int grave_fd = x->staging.grave_fd, r = 0;
        char name[16];

        (void) snprintf(name, sizeof(name), "%u", m->grave);
        if (m->is_buried && !is_elsewhere_in_old(x, m)) {
                _cleanup_close_ int fd = open_dir_beneath(grave_fd, name), graves_fd = grave_upper(x);
                _cleanup_close_ int upper_fd = graves_fd < 0 ? graves_fd : open_dir_beneath(graves_fd, name);

                r = graves_fd < 0 ? graves_fd : give_back(x, m, grave_fd, graves_fd, name);
                if (r >= 0 && is_handle_at(graves_fd, name, m->new_handle))
                        r = fd < 0 ? fd : upper_fd < 0 ? upper_fd : prune_placed(x, fd, upper_fd, m);
                if (r >= 0 && unlinkat(grave_fd, name, AT_REMOVEDIR) >= 0)
                        m->is_buried = false;
        }
        if (r < 0)
                return r; /* it waits in the grave */
        if (m->is_buried)
                r =
                        keep(x, grave_fd, name, NULL, name,
                             "a directory that moved in the old tree and was not found again");
        tree_drop_detached(x->tree, m);
        return r;
}

/* Directories on their way are met again where they went: there is an event to come, but path users miss
 * them. */
static int settle_detached(Exchange *x) {
        int r = 0;

        for (unsigned round = 0; r >= 0 && x->tree->detached && round < CLAIM_ROUNDS; round++) {
                (void) tree_foreach(x->tree, make_dirty, NULL);
                r = reconcile_names(x);
        }
        while (r >= 0 && x->tree->detached)
                r = drop_detached(x, x->tree->detached);
        return r == -EAGAIN ? 0 : r;
}

int reconcile_dirty(Exchange *x) {
        int r;

        if (x->is_beside && x->beside_usec == 0)
                x->beside_usec = now_monotonic_usec();
        r = reconcile_names(x);
        if (r >= 0)
                r = settle_detached(x);
        return r < 0 ? r : replay_renames(x);
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
