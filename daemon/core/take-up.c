/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the old tree has after the exchange and the new one has not: linked, moved or made there too.
 * Whatever does not fit goes to kept/. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "core/fileattr.h"
#include "core/layer.h"
#include "core/meta.h"
#include "core/reconcile-internal.h"

static void learn(Sides *s, Entry *e, const RawEntry *raw) {
        e->type = raw->type;
        e->inode = raw->inode;
        e->identity = entry_identity(s->new_upper_fd, raw->name);
        e->is_placed = e->is_late = true;
        e->missing = MISSING_NOT;
        s->x->late_usec = now_monotonic_usec();
}

int keep_from_old(Sides *s, const RawEntry *raw, const char *why) {
        return keep(s->x, s->old_fd, raw->name, s->node, raw->name, why);
}

static bool is_inode_at(int upper_dfd, const RawEntry *raw) {
        struct stat st;

        return fstatat(upper_dfd, raw->name, &st, AT_SYMLINK_NOFOLLOW) >= 0 && st.st_ino == raw->inode;
}

/* The new tree's users were first: theirs holds. */
static int lose(Sides *s, Entry *e, const RawEntry *raw) {
        entry_drop(s->node, e);
        return keep_from_old(s, raw, "replaced in the old tree, and replaced or removed in the new one");
}

/* A name that the old tree shows with another entry than it was placed with: the new one gets it in one
 * step, if it still has the old one. */
int replace(Sides *s, Entry *e, const RawEntry *raw) {
        Exchange *x = s->x;
        _cleanup_close_ int grave_upper_fd = grave_upper(x);
        char grave[16];

        if (grave_upper_fd < 0)
                return grave_upper_fd;
        if (is_inode_at(s->new_upper_fd, raw)) { /* done already, before a crash */
                learn(s, e, raw);
                return 0;
        }
        if (!is_as_placed(s->new_upper_fd, e->name, e))
                return lose(s, e, raw);
        staging_new_name(&x->staging, grave);
        if (linkat(s->old_fd, raw->name, x->staging.grave_fd, grave, 0) < 0)
                return errno == ENOENT ? (s->node->is_deferred = true, 0) : -errno;
        if (renameat2(x->staging.grave_fd, grave, s->new_fd, e->name, RENAME_EXCHANGE) < 0) {
                int error = errno;

                (void) unlinkat(x->staging.grave_fd, grave, 0);
                return error == ENOENT ? lose(s, e, raw) : -error;
        }
        if (is_as_placed(grave_upper_fd, grave, e)) {
                (void) unlinkat(x->staging.grave_fd, grave, 0);
                learn(s, e, raw);
                return 0;
        }
        /* Somebody was faster: theirs goes back, ours is in the old tree still. */
        if (renameat2(x->staging.grave_fd, grave, s->new_fd, e->name, RENAME_EXCHANGE) >= 0)
                (void) unlinkat(x->staging.grave_fd, grave, 0);
        else {
                int r = put_back(x, grave, s->new_fd, s->node, e->name, "replaced in both trees at once");
                if (r < 0)
                        return r;
        }
        return lose(s, e, raw);
}

static int add_file(Sides *s, const RawEntry *raw) {
        Entry *e;
        int r;

        if (linkat(s->old_fd, raw->name, s->new_fd, raw->name, 0) < 0) {
                if (errno == ENOENT) {
                        s->node->is_deferred = true;
                        return 0;
                }
                if (errno != EEXIST)
                        return -errno;
                /* Taken by users of the new tree: theirs holds. */
                if (!is_inode_at(s->new_upper_fd, raw))
                        return keep_from_old(
                                s, raw, "made in the old tree while the name was taken in the new one");
        }
        r = node_add_late(s->node, raw->name, raw->type, &e);
        if (r < 0)
                return r;
        learn(s, e, raw);
        return 0;
}

/* Whether a directory in the old tree is nothing but upper: then its raw listing is all there is. */
static int is_pure_directory(Sides *s, const char *name) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        int r = upper_entry_read(s->old_upper_fd, name, &e);

        return r < 0 ? r : e.class == UPPER_OPAQUE || (e.class == UPPER_PLAIN && !s->node->is_merged);
}

/* One directory in both trees, from its four descriptors. */
typedef struct DirectoryPair {
        int old_fd, old_upper_fd, new_fd, new_upper_fd;
} DirectoryPair;

static void directory_pair_done(DirectoryPair *p) {
        (void) fd_close(p->old_fd);
        (void) fd_close(p->old_upper_fd);
        (void) fd_close(p->new_fd);
        (void) fd_close(p->new_upper_fd);
}

static int identify_pair(Node *n, const DirectoryPair *p) {
        struct stat st;
        int r;

        if (fstat(p->old_upper_fd, &st) < 0)
                return -errno;
        node_set_old_inode(n, st.st_ino);
        n->entry->inode = st.st_ino;
        if (fstat(p->new_upper_fd, &st) < 0)
                return -errno;
        n->new_inode = st.st_ino;
        r = file_handle_at(p->old_upper_fd, "", &n->old_handle);
        return r < 0 ? r : file_handle_at(p->new_upper_fd, "", &n->new_handle);
}

/* The same directory in both trees from now on: watched, then compared. Who made it through the old tree
 * goes on using it there. */
static int mirror_directory(Sides *s, const RawEntry *raw, const DirectoryPair *p) {
        Entry *e;
        int r = node_add_late(s->node, raw->name, DT_DIR, &e);

        if (r < 0)
                return r;
        e->is_placed = e->is_late = true;
        e->dir->is_undressed = false;
        e->dir->changes.all = true;
        replay_remember_node(e->dir, p->new_fd);
        r = identify_pair(e->dir, p);
        return r < 0 ? r : watch_add(s->x, e->dir, p->old_fd);
}

/* Made where nobody else reaches it, and finished, before it appears. 1: the name is taken. */
static int make_mirror(Sides *s, const RawEntry *raw, DirectoryPair *p) {
        _cleanup_close_ int grave_upper_fd = grave_upper(s->x);
        int grave_fd = s->x->staging.grave_fd, r;
        char grave[16];

        staging_new_name(&s->x->staging, grave);
        if (mkdirat(grave_fd, grave, 0700) < 0)
                return -errno;
        p->new_fd = open_dir_beneath(grave_fd, grave);
        p->new_upper_fd = open_dir_beneath(grave_upper_fd, grave);
        r = p->new_fd < 0             ? p->new_fd
                : p->new_upper_fd < 0 ? p->new_upper_fd
                                      : meta_copy(p->old_fd, p->new_fd);
        if (r >= 0) {
                r = fileattr_copy(p->old_fd, p->new_fd);
                r = r > 0 ? 0 : r; /* users of the new tree go without what cannot be had */
        }
        if (r >= 0 && renameat2(grave_fd, grave, s->new_fd, raw->name, RENAME_NOREPLACE) < 0)
                r = errno == EEXIST ? 1 : -errno;
        if (r != 0)
                (void) unlinkat(grave_fd, grave, AT_REMOVEDIR);
        return r;
}

/* A directory of that name that was made in the new tree is taken for the same if the same people may use
 * it. */
static bool is_same_people(const DirectoryPair *p) {
        struct stat old, new;

        return p->new_fd >= 0 && p->new_upper_fd >= 0 && fstat(p->old_fd, &old) >= 0 &&
                fstat(p->new_fd, &new) >= 0 &&
                old.st_uid == new.st_uid &&old.st_gid == new.st_gid &&old.st_mode == new.st_mode;
}

static int add_pure_directory(Sides *s, const RawEntry *raw) {
        _cleanup_(directory_pair_done) DirectoryPair p = { .new_fd = -EBADF, .new_upper_fd = -EBADF };
        int r;

        p.old_fd = open_dir_beneath(s->old_fd, raw->name);
        p.old_upper_fd = open_dir_beneath(s->old_upper_fd, raw->name);
        if (p.old_fd < 0 || p.old_upper_fd < 0) {
                s->node->is_deferred = true;
                return 0;
        }
        r = make_mirror(s, raw, &p);
        if (r == 0)
                return mirror_directory(s, raw, &p);
        if (r < 0)
                return r;
        (void) fd_close(p.new_fd);
        (void) fd_close(p.new_upper_fd);
        p.new_fd = open_dir_beneath(s->new_fd, raw->name);
        p.new_upper_fd = open_dir_beneath(s->new_upper_fd, raw->name);
        if (is_same_people(&p))
                return mirror_directory(s, raw, &p);
        return keep_from_old(
                s, raw, "a directory made in the old tree while the name was taken in the new one");
}

/* A directory that the tree does not know: it gets a counterpart. One that is merged cannot be copied so; it
 * moves over as it is, and who stands in it goes along. */
static int add_directory(Sides *s, const RawEntry *raw) {
        int r = is_pure_directory(s, raw->name);

        if (r != 0)
                return r < 0 ? r : add_pure_directory(s, raw);
        if (renameat2(s->old_fd, raw->name, s->new_fd, raw->name, RENAME_NOREPLACE) >= 0 || errno == ENOENT)
                return 0;
        return errno != EEXIST
                ? -errno
                : keep_from_old(s, raw, "moved into the old tree while the name was taken in the new one");
}

/* Where the new directory of m waits or was left: a descriptor of the directory around, and its name. */
static int find_new(Exchange *x, const Node *m, int *ret_fd, char *ret_name) {
        _cleanup_close_ int fd = -EBADF, upper_fd = -EBADF;
        int r;

        if (m->is_buried) {
                (void) snprintf(ret_name, NAME_MAX + 1, "%u", m->grave);
                *ret_fd = fcntl(x->staging.grave_fd, F_DUPFD_CLOEXEC, 3);
                return *ret_fd < 0 ? -errno : 0;
        }
        if (!m->entry)
                return -ENOENT; /* its users moved it: it stays with them */
        r = node_open_new(x, m->parent, &fd, &upper_fd);
        if (r < 0 || !is_handle_at(upper_fd, m->entry->name, m->new_handle))
                return -ENOENT;
        (void) strcpy(ret_name, m->entry->name);
        *ret_fd = TAKE_FD(fd);
        return 0;
}

/* The name that the directory has in the old tree is somebody else's in the new one: the two part. */
static int part(Sides *s, Node *m, const RawEntry *raw) {
        int r = keep_from_old(s, raw, "renamed in the old tree to a name that was taken in the new one");

        if (r < 0)
                return r;
        if (m->is_buried) {
                char grave[16];

                (void) snprintf(grave, sizeof(grave), "%u", m->grave);
                r =
                        keep(s->x, s->x->staging.grave_fd, grave, s->node, raw->name,
                             "renamed in the old tree to a name that was taken in the new one");
        }
        if (m->entry)
                entry_drop(m->parent, m->entry);
        else
                tree_drop_detached(s->x->tree, m);
        return r;
}

int follow_move(Sides *s, Node *m, const RawEntry *raw) {
        _cleanup_close_ int fd = -EBADF;
        char name[NAME_MAX + 1];
        int r;

        for (const Node *n = s->node; n->entry; n = n->parent)
                if (n->parent == m) /* the one around has moved as well, and is to be compared first */
                        return -EAGAIN;
        r = find_new(s->x, m, &fd, name);
        if (r < 0 && r != -ENOENT)
                return r;
        if (r >= 0 && renameat2(fd, name, s->new_fd, raw->name, RENAME_NOREPLACE) < 0 && errno != ENOENT)
                return errno == EEXIST ? part(s, m, raw) : -errno;
        m->is_buried = false;
        return node_attach(m, s->node, raw->name);
}

int take_up(Sides *s, const RawEntry *raw) {
        Node *known = tree_find_old_at(s->x->tree, s->old_upper_fd, raw);

        if (raw->type != DT_DIR)
                return add_file(s, raw);
        return known && known != s->x->tree->root ? follow_move(s, known, raw) : add_directory(s, raw);
}
