/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* After the exchange: what still ended up in the old tree (by whoever had looked the directory up before, or stands in it)
 * is done again in the new one, which others use by now. Facts E.4, step 8. Every step says what it expects to find and
 * leaves alone, or keeps, whatever it does not: nothing that somebody made is deleted.
 *
 * The tree says what both sides held last. Steps are idempotent: after a crash the same comparison goes on. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/exchange-internal.h"
#include "core/layer.h"
#include "core/meta.h"

typedef struct Sides {
        Exchange *x;
        Node *node;
        int old_fd, old_upper_fd, new_fd, new_upper_fd;
        Changes changes;
        RawList list;
} Sides;

static void sides_done(Sides *s) {
        (void) fd_close(s->old_fd);
        (void) fd_close(s->old_upper_fd);
        (void) fd_close(s->new_fd);
        (void) fd_close(s->new_upper_fd);
        raw_list_done(&s->list);
        changes_done(&s->changes);
}

static int open_new_by_path(Exchange *x, const char *path, uint64_t inode, int *ret_fd, int *ret_upper_fd) {
        _cleanup_close_ int fd = open_dir_beneath(x->new_fd, path), upper_fd = open_dir_beneath(x->new_upper_fd, path);
        struct stat st;

        if (fd < 0 || upper_fd < 0)
                return -ESTALE;
        if (fstat(upper_fd, &st) < 0)
                return -errno;
        if (st.st_ino != inode)
                return -ESTALE;
        *ret_fd = TAKE_FD(fd);
        *ret_upper_fd = TAKE_FD(upper_fd);
        return 0;
}

/* Users may have moved the directory anywhere in the overlay; what stands in the upper stands at the same path there. */
static int open_new_by_handle(Exchange *x, const char *handle, int *ret_fd, int *ret_upper_fd) {
        _cleanup_close_ int at = -EBADF, fd = -EBADF;
        _cleanup_free_ char *path = NULL;

        if (!handle)
                return -ESTALE;
        at = file_handle_open(x->site->upper_fd, handle, &path);
        if (at < 0)
                return -ESTALE;
        fd = open_dir_beneath(x->site->root_fd, path);
        if (fd < 0)
                return fd == -ENOENT ? -ESTALE : fd;
        *ret_upper_fd = fd_reopen(at, O_RDONLY | O_DIRECTORY);
        if (*ret_upper_fd < 0)
                return *ret_upper_fd;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int node_open_new(Exchange *x, const Node *n, int *ret_fd, int *ret_upper_fd) {
        _cleanup_free_ char *path = node_path(n);
        int r = -ESTALE;

        if (path)
                r = open_new_by_path(x, path, n->new_inode, ret_fd, ret_upper_fd);
        return r == -ESTALE ? open_new_by_handle(x, n->new_handle, ret_fd, ret_upper_fd) : r;
}

static bool is_as_placed(int upper_dfd, const char *name, const Entry *e, uint64_t inode) {
        struct stat st;

        if (fstatat(upper_dfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_ino != inode)
                return false;
        return e->identity == 0 || e->identity == entry_identity(upper_dfd, name);
}

/* Puts a grave entry among the kept ones and tells. */
static void keep(Exchange *x, int dfd, const char *name, const Node *n, const char *as, const char *why) {
        _cleanup_free_ char *path = exchange_node_path(x, n, as);
        char kept[16];

        do
                staging_new_name(&x->staging, kept);
        while (renameat2(dfd, name, x->staging.kept_fd, kept, RENAME_NOREPLACE) < 0 && errno == EEXIST);
        site_note(x->site, path ?: as, "%s; it is kept as '%s/%s/kept/%s' at the root of the overlay", why, STAGING_NAME,
                  x->staging.id, kept);
}

static int grave_upper(Exchange *x) {
        return open_dir_beneath(x->staging.upper_fd, "grave");
}

/* Out first, then compare, then delete: nothing can come between a look and an unlink in a directory only we reach. */
int take_out(Exchange *x, int new_fd, int new_upper_fd, const Entry *e) {
        _cleanup_close_ int grave_upper_fd = -EBADF;
        char grave[16];

        if (!is_as_placed(new_upper_fd, e->name, e, e->inode))
                return 0;
        grave_upper_fd = grave_upper(x);
        if (grave_upper_fd < 0)
                return grave_upper_fd;
        staging_new_name(&x->staging, grave);
        if (renameat2(new_fd, e->name, x->staging.grave_fd, grave, RENAME_NOREPLACE) < 0)
                return errno == ENOENT ? 0 : -errno;
        if (is_as_placed(grave_upper_fd, grave, e, e->inode))
                return unlinkat(x->staging.grave_fd, grave, 0) < 0 ? -errno : 1;
        /* Replaced between look and rename: back where it was. */
        if (renameat2(x->staging.grave_fd, grave, new_fd, e->name, RENAME_NOREPLACE) < 0)
                return errno == EEXIST ? 0 : -errno;
        return 0;
}

/* A name that the old tree shows with another entry than it was placed with: the new one gets it in one step, if it still
 * has the old one. */
static int replace(Sides *s, Entry *e, const RawEntry *raw) {
        Exchange *x = s->x;
        _cleanup_close_ int grave_upper_fd = grave_upper(x);
        char grave[16];

        if (grave_upper_fd < 0)
                return grave_upper_fd;
        if (!is_as_placed(s->new_upper_fd, e->name, e, e->inode))
                return 0; /* somebody replaced or removed it in the new tree: that came later and holds */
        staging_new_name(&x->staging, grave);
        if (linkat(s->old_fd, raw->name, x->staging.grave_fd, grave, 0) < 0)
                return errno == ENOENT ? 0 : -errno;
        if (renameat2(x->staging.grave_fd, grave, s->new_fd, e->name, RENAME_EXCHANGE) < 0) {
                (void) unlinkat(x->staging.grave_fd, grave, 0);
                return errno == ENOENT ? 0 : -errno;
        }
        if (!is_as_placed(grave_upper_fd, grave, e, e->inode)) {
                /* Somebody was faster: their entry goes back, ours is in the old tree still. */
                if (renameat2(x->staging.grave_fd, grave, s->new_fd, e->name, RENAME_EXCHANGE) < 0)
                        return -errno;
        }
        return unlinkat(x->staging.grave_fd, grave, 0) < 0 ? -errno : 1;
}

static void learn(Entry *e, const RawEntry *raw, int upper_fd) {
        e->type = raw->type;
        e->inode = raw->inode;
        e->identity = entry_identity(upper_fd, raw->name);
        e->is_placed = true;
}

/* Moves what the new tree has no place for out of the old one. */
static int keep_from_old(Sides *s, const RawEntry *raw, const char *why) {
        char copy[16];

        staging_new_name(&s->x->staging, copy);
        if (renameat2(s->old_fd, raw->name, s->x->staging.grave_fd, copy, RENAME_NOREPLACE) < 0)
                return errno == ENOENT ? 0 : -errno;
        keep(s->x, s->x->staging.grave_fd, copy, s->node, raw->name, why);
        return 0;
}

static int add_file(Sides *s, const RawEntry *raw) {
        struct stat st;
        Entry *e;
        int r;

        if (linkat(s->old_fd, raw->name, s->new_fd, raw->name, 0) < 0) {
                if (errno == ENOENT) {
                        node_recheck(s->node);
                        return 0;
                }
                if (errno != EEXIST)
                        return -errno;
                /* Taken by users of the new tree: theirs holds. */
                if (fstatat(s->new_upper_fd, raw->name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_ino != raw->inode)
                        return keep_from_old(s, raw, "made in the old tree while the name was taken in the new one");
        }
        r = node_add(s->node, raw->name, raw->type, &e);
        if (r < 0)
                return r;
        e->is_local = true;
        learn(e, raw, s->new_upper_fd);
        return 0;
}

/* Whether a directory in the old tree is nothing but upper: then its raw listing is all there is. */
static int is_pure_directory(Sides *s, const char *name) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        int r = upper_entry_read(s->old_upper_fd, name, &e);

        return r < 0 ? r : e.class == UPPER_OPAQUE || (e.class == UPPER_PLAIN && !s->node->is_merged);
}

static int identify_pair(Sides *s, Node *n, const char *name) {
        struct stat st;
        int r;

        if (fstatat(s->old_upper_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        node_set_old_inode(n, st.st_ino);
        n->entry->inode = st.st_ino;
        if (fstatat(s->new_upper_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        n->new_inode = st.st_ino;
        r = file_handle_at(s->old_upper_fd, name, &n->old_handle);
        return r < 0 ? r : file_handle_at(s->new_upper_fd, name, &n->new_handle);
}

/* The same directory in both trees from now on: watched, then compared. Who made it through the old tree goes on using
 * it there; a directory of that name made in the new one meanwhile is taken for the same. */
static int mirror_directory(Sides *s, const RawEntry *raw, bool is_new) {
        _cleanup_close_ int old_fd = open_dir_beneath(s->old_fd, raw->name), new_fd = open_dir_beneath(s->new_fd, raw->name);
        Entry *e;
        int r;

        if (old_fd < 0 || new_fd < 0) {
                node_recheck(s->node);
                return 0;
        }
        r = node_add(s->node, raw->name, DT_DIR, &e);
        if (r < 0)
                return r;
        e->is_local = e->is_placed = true;
        e->dir->is_undressed = false;
        e->dir->changes.all = true;
        r = identify_pair(s, e->dir, raw->name);
        if (r >= 0)
                r = watch_add(s->x, e->dir, old_fd);
        if (r >= 0 && is_new)
                r = meta_copy(old_fd, new_fd);
        return r;
}

/* A directory that the tree does not know: it gets a counterpart. One that is merged cannot be copied so; it moves over as
 * it is, and who stands in it goes along. */
static int add_directory(Sides *s, const RawEntry *raw) {
        int r = is_pure_directory(s, raw->name);
        struct stat st;

        if (r < 0)
                return r;
        if (r == 0) {
                if (renameat2(s->old_fd, raw->name, s->new_fd, raw->name, RENAME_NOREPLACE) >= 0 || errno == ENOENT)
                        return 0;
                return errno != EEXIST ? -errno
                                       : keep_from_old(s, raw, "moved into the old tree while the name was taken in the new one");
        }
        if (mkdirat(s->new_fd, raw->name, 0700) >= 0)
                return mirror_directory(s, raw, /* is_new= */ true);
        if (errno != EEXIST)
                return -errno;
        if (fstatat(s->new_upper_fd, raw->name, &st, AT_SYMLINK_NOFOLLOW) >= 0 && S_ISDIR(st.st_mode))
                return mirror_directory(s, raw, /* is_new= */ false);
        return keep_from_old(s, raw, "a directory made in the old tree while the name was taken in the new one");
}

/* A directory of the tree that was renamed through the old side: its new directory follows, if it is where we left it. */
static int follow_move(Sides *s, Node *m, const RawEntry *raw) {
        _cleanup_close_ int parent_fd = -EBADF, parent_upper_fd = -EBADF;
        int r;

        if (node_open_new(s->x, m->parent, &parent_fd, &parent_upper_fd) >= 0 &&
            is_handle_at(parent_upper_fd, m->entry->name, m->new_handle) &&
            renameat2(parent_fd, m->entry->name, s->new_fd, raw->name, RENAME_NOREPLACE) < 0 && errno != ENOENT &&
            errno != EEXIST)
                return -errno;
        r = node_attach(m, s->node, raw->name);
        return r == -EEXIST ? 0 : r;
}

static int take_up(Sides *s, const RawEntry *raw) {
        Node *known = tree_find_old_at(s->x->tree, s->old_upper_fd, raw);

        if (raw->type != DT_DIR)
                return add_file(s, raw);
        if (known && known->entry)
                return follow_move(s, known, raw);
        if (known) /* its new directory is gone: the old one takes its place */
                tree_drop_detached(s->x->tree, known);
        return add_directory(s, raw);
}

static int prune_placed(Exchange *x, int dfd, int upper_dfd, Node *n, bool *ret_is_empty);

/* Removes below a directory in the grave what was placed there; somebody's own stays. */
static int prune_entry(Exchange *x, int dfd, int upper_dfd, Entry *e) {
        _cleanup_close_ int fd = -EBADF, upper_fd = -EBADF;
        bool is_empty;
        int r;

        if (!e->is_placed || e->type == DT_WHT)
                return 0;
        if (!e->dir) {
                if (is_as_placed(upper_dfd, e->name, e, e->inode) && unlinkat(dfd, e->name, 0) < 0)
                        return -errno;
                return 0;
        }
        fd = open_dir_beneath(dfd, e->name);
        upper_fd = open_dir_beneath(upper_dfd, e->name);
        if (fd < 0 || upper_fd < 0)
                return 0;
        r = prune_placed(x, fd, upper_fd, e->dir, &is_empty);
        if (r >= 0 && is_empty && unlinkat(dfd, e->name, AT_REMOVEDIR) < 0 && errno != ENOTEMPTY)
                r = -errno;
        return r;
}

static int count_entry(int dfd, const char *name, unsigned char type, void *userdata) {
        *(bool *) userdata = false;
        return 0;
}

static int prune_placed(Exchange *x, int dfd, int upper_dfd, Node *n, bool *ret_is_empty) {
        Entry *e, *next;

        HASH_ITER(hh, n->entries, e, next) {
                int r = prune_entry(x, dfd, upper_dfd, e);
                if (r < 0)
                        return r;
        }
        *ret_is_empty = true;
        return dir_foreach(dfd, count_entry, ret_is_empty);
}

/* A directory that left the old tree for good (removed, or moved out of it): so does its copy, but for what its users made
 * in it since the exchange. */
static int remove_directory(Sides *s, Entry *e) {
        _cleanup_close_ int fd = -EBADF, upper_fd = -EBADF;
        Exchange *x = s->x;
        bool is_empty = false;
        char grave[16], path[sizeof("grave/") + 16];
        int r;

        if (!is_handle_at(s->new_upper_fd, e->name, e->dir->new_handle))
                return 0;
        staging_new_name(&x->staging, grave);
        if (renameat2(s->new_fd, e->name, x->staging.grave_fd, grave, RENAME_NOREPLACE) < 0)
                return errno == ENOENT ? 0 : -errno;
        (void) snprintf(path, sizeof(path), "grave/%s", grave);
        fd = open_dir_beneath(x->staging.grave_fd, grave);
        upper_fd = open_dir_beneath(x->staging.upper_fd, path);
        if (fd < 0 || upper_fd < 0)
                return fd < 0 ? fd : upper_fd;
        r = prune_placed(x, fd, upper_fd, e->dir, &is_empty);
        if (r < 0)
                return r;
        if (is_empty && unlinkat(x->staging.grave_fd, grave, AT_REMOVEDIR) >= 0)
                return 0;
        /* Its users have used it: it goes back to them, without what was removed. */
        if (renameat2(x->staging.grave_fd, grave, s->new_fd, e->name, RENAME_NOREPLACE) < 0)
                keep(x, x->staging.grave_fd, grave, s->node, e->name, "a directory removed in the old tree and used in the new one");
        return 0;
}

/* Whether the directory stands somewhere else in the old tree: where it does, the comparison there lets it move. */
static bool is_elsewhere_in_old(Exchange *x, const Node *n) {
        _cleanup_free_ char *root = NULL, *path = NULL;
        _cleanup_close_ int fd = -EBADF;

        if (!n->old_handle)
                return false;
        fd = file_handle_open(x->site->upper_fd, n->old_handle, NULL);
        return fd >= 0 && fd_path(fd, &path) >= 0 && fd_path(x->old_upper_fd, &root) >= 0 && path_startswith(path, root);
}

static int forget(Sides *s, Entry *e) {
        bool is_lower_name = !e->is_local;
        char name[NAME_MAX + 1];
        int r;

        if (e->dir && is_elsewhere_in_old(s->x, e->dir))
                return 0;

        if (e->is_placed) {
                r = e->dir ? remove_directory(s, e) : take_out(s->x, s->new_fd, s->new_upper_fd, e);
                if (r < 0)
                        return r;
        }
        (void) strcpy(name, e->name);
        if (e->dir)
                node_detach(e->dir); /* it may turn up in a directory compared later */
        else
                entry_drop(s->node, e);
        r = is_lower_name ? node_add(s->node, name, DT_WHT, NULL) : 0;
        return r == -EEXIST ? 0 : r;
}

/* Directories seen elsewhere in the old tree must not be removed as gone: moves come first. */
static int compare_moves(Sides *s) {
        for (size_t i = 0; i < s->list.n; i++) {
                const RawEntry *raw = s->list.items + i;
                Node *known = tree_find_old_at(s->x->tree, s->old_upper_fd, raw);
                Entry *e = node_find(s->node, raw->name);
                int r;

                if (!known || !known->entry || (e && e->dir == known))
                        continue;
                if (e && e->type != DT_WHT) /* the place is taken by what is to leave it */
                        r = forget(s, e);
                else
                        r = 0;
                e = node_find(s->node, raw->name);
                if (r >= 0 && e && e->type == DT_WHT)
                        entry_drop(s->node, e);
                if (r >= 0)
                        r = follow_move(s, known, raw);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int compare_entry(Sides *s, const RawEntry *raw) {
        Entry *e = node_find(s->node, raw->name);
        bool is_lower_name;
        int r;

        if (raw->type == DT_WHT)
                return 0; /* an entry with a whiteout is one that is not seen */
        if (is_staging_name(raw->name))
                return 0; /* the old tree of a directory below, moved along by its own keeper */
        if (e && e->is_placed && e->type == raw->type &&
            (e->dir ? tree_find_old_at(s->x->tree, s->old_upper_fd, raw) == e->dir : e->inode == raw->inode)) {
                e->is_seen = true;
                return 0;
        }
        is_lower_name = e && !e->is_local;
        if (e && e->is_placed && !e->dir && raw->type != DT_DIR && e->type != DT_WHT) {
                r = replace(s, e, raw);
                if (r > 0)
                        learn(e, raw, s->new_upper_fd);
                e->is_seen = true;
                return r < 0 ? r : 0;
        }
        if (e && e->type != DT_WHT) {
                r = forget(s, e);
                if (r < 0)
                        return r;
                e = node_find(s->node, raw->name);
        }
        if (e)
                entry_drop(s->node, e);
        r = take_up(s, raw);
        e = node_find(s->node, raw->name);
        if (e) {
                e->is_seen = true;
                e->is_local = e->is_local && !is_lower_name;
        }
        return r;
}

static int forget_unless_seen(Sides *s, Entry *e) {
        bool is_gone = !e->is_seen && e->type != DT_WHT;

        e->is_seen = false;
        return is_gone ? forget(s, e) : 0;
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
        int r;

        if (!path)
                return -ESTALE;
        s->old_fd = open_dir_beneath(x->old_fd, path);
        s->old_upper_fd = open_dir_beneath(x->old_upper_fd, path);
        if (s->old_fd < 0 || s->old_upper_fd < 0)
                return -ESTALE; /* moved or removed: its parent tells */
        r = node_open_new(x, s->node, &s->new_fd, &s->new_upper_fd);
        return r < 0 ? r : raw_list_changes(s->old_upper_fd, &s->changes, &s->list);
}

static int reconcile_node(Exchange *x, Node *n) {
        _cleanup_(sides_done) Sides s = {
                .x = x, .node = n, .old_fd = -EBADF, .old_upper_fd = -EBADF, .new_fd = -EBADF, .new_upper_fd = -EBADF,
                .changes = node_take_changes(n),
        };
        int r;

        x->was_used = true;
        r = sides_open(&s);

        if (r >= 0)
                r = compare_moves(&s);
        for (size_t i = 0; r >= 0 && i < s.list.n; i++)
                r = compare_entry(&s, s.list.items + i);
        if (r >= 0)
                r = forget_unseen(&s);
        x->is_manifest_stale = true;
        n->is_deferred |= r == -ESTALE;
        return r == -ESTALE ? 0 : r;
}

/* Attributes set on an old directory, through a descriptor or as ".": whoever did that means this directory. */
static int redress_node(Exchange *x, Node *n) {
        _cleanup_close_ int old_fd = -EBADF, new_fd = -EBADF, new_upper_fd = -EBADF;
        _cleanup_free_ char *path = node_path(n);

        if (!path)
                return 0;
        old_fd = open_dir_beneath(x->old_fd, path);
        if (old_fd < 0 || node_open_new(x, n, &new_fd, &new_upper_fd) < 0)
                return 0;
        return meta_copy(old_fd, new_fd);
}

typedef struct Work {
        Node *next;
        unsigned depth;
        bool want_dress;
} Work;

static int find_work(Node *n, void *userdata) {
        Work *w = userdata;
        unsigned depth;

        if (w->want_dress ? !n->is_undressed : !node_has_changes(n))
                return 0;
        depth = node_depth(n);
        if (!w->next || depth < w->depth) {
                w->next = n;
                w->depth = depth;
        }
        return 0;
}

static Node *next_work(Exchange *x, bool want_dress) {
        Work w = { .want_dress = want_dress };

        (void) tree_foreach(x->tree, find_work, &w);
        return w.next;
}

int reconcile_dirty(Exchange *x) {
        Node *n;
        int r;

        while ((n = next_work(x, /* want_dress= */ false))) {
                r = reconcile_node(x, n);
                if (r < 0)
                        return r;
        }
        while ((n = next_work(x, /* want_dress= */ true))) {
                n->is_undressed = false;
                r = redress_node(x, n);
                if (r < 0)
                        return r;
        }
        while (x->tree->detached)
                tree_drop_detached(x->tree, x->tree->detached);
        return 0;
}

static int make_dirty(Node *n, void *userdata) {
        n->changes.all = true;
        return 0;
}

int reconcile_all(Exchange *x) {
        (void) tree_foreach(x->tree, make_dirty, NULL);
        return reconcile_dirty(x);
}
