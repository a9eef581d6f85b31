/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is mounted in an overlay, carried over in a swap: it would go with the old superblock when that is
 * detached (docs/overlayfs.md 7.6). The new one gets copies, which share their superblocks and their peers
 * with the originals; no file system is mounted anew. What cannot be copied just as it is makes the copy
 * fail, and the failure names it. It decides nothing about the overlay itself. */
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/remount/remount-internal.h"

/* Without asking the file system, as stat() would. */
int fd_mount_id(int fd) {
        _cleanup_fclose_ FILE *f = NULL;
        char name[32], line[128];
        int id;

        (void) snprintf(name, sizeof(name), "/proc/self/fdinfo/%i", fd);
        f = fopen(name, "re");
        if (!f)
                return -errno;
        while (fgets(line, sizeof(line), f))
                if (sscanf(line, "mnt_id: %i", &id) == 1)
                        return id;
        return -ENODATA;
}

/* Relative to the mount it stands on. */
static const char *place(const MountTable *t, const MountEntry *e) {
        const MountEntry *parent = mount_table_find(t, e->parent_id);

        return parent ? path_startswith(e->target, parent->target) : NULL;
}

static bool is_alike(const MountTable *a, const MountEntry *x, const MountTable *b, const MountEntry *y) {
        const char *p = place(a, x), *q = place(b, y);

        return p && q && strcmp(p, q) == 0 && x->device == y->device && strcmp(x->root, y->root) == 0 &&
                strcmp(x->vfs_options, y->vfs_options) == 0;
}

static bool has_all(const MountTable *a, int id_a, const MountTable *b, int id_b);

static bool has_one(const MountTable *a, int id_a, const MountEntry *x, const MountTable *b, int id_b) {
        for (size_t i = 0; i < b->n; i++) {
                const MountEntry *y = b->items + i;

                if (y->parent_id == id_b && y->id != id_a && is_alike(a, x, b, y) &&
                    has_all(a, x->id, b, y->id))
                        return true;
        }
        return false;
}

/* Whether b has below id_b whatever a has below id_a; one of the two may stand on the other. */
static bool has_all(const MountTable *a, int id_a, const MountTable *b, int id_b) {
        for (size_t i = 0; i < a->n; i++) {
                const MountEntry *x = a->items + i;

                if (x->parent_id == id_a && x->id != id_a && x->id != id_b && !has_one(a, id_a, x, b, id_b))
                        return false;
        }
        return true;
}

bool child_mounts_same(const MountTable *a, int id_a, const MountTable *b, int id_b) {
        return has_all(a, id_a, b, id_b) && has_all(b, id_b, a, id_a);
}

/* A path of the mount table, whose last component is a mount point: mounts are crossed, symlinks are not. */
static int open_crossing(int dfd, const char *path) {
        struct open_how how = {
                .flags = O_PATH | O_CLOEXEC,
                .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
        };
        long fd;

        do
                fd = syscall(SYS_openat2, dfd, path, &how, sizeof(how));
        while (fd < 0 && (errno == EAGAIN || errno == EINTR));
        return fd < 0 ? -errno : (int) fd;
}

/* Mounts stacked upon each other at one place stand on each other: the path leads to the topmost, whose copy
 * would lack the others. -EBUSY also for what was moved meanwhile. */
static int copy_one(const MountEntry *e, const char *path, int old_fd, int new_fd) {
        _cleanup_close_ int fd = open_crossing(old_fd, path), tree = -EBADF, target = -EBADF;
        int id = fd < 0 ? fd : fd_mount_id(fd);

        if (id < 0)
                return id;
        if (id != e->id)
                return -EBUSY;
        tree = open_tree(fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
        if (tree < 0)
                return -errno;
        target = open_beneath(new_fd, path, O_PATH);
        if (target < 0)
                return target;
        return move_mount(tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0
                ? -errno
                : 0;
}

int child_mounts_copy(const MountTable *t, int old_id, int old_fd, int new_fd, Failure *reterr) {
        int new_id = fd_mount_id(new_fd);

        if (new_id < 0)
                return new_id;
        for (size_t i = 0; i < t->n; i++) {
                const MountEntry *e = t->items + i;
                const char *path;
                int r;

                if (e->parent_id != old_id || e->id == old_id || e->id == new_id)
                        continue;
                path = place(t, e);
                r = path ? copy_one(e, path, old_fd, new_fd) : -ENOENT;
                if (r < 0)
                        return failure_set_errno(
                                reterr, r,
                                "cannot carry over what is mounted at '%s' (%s): unmount it, or try again "
                                "when it is not being changed",
                                e->target, e->type);
        }
        return 0;
}

/* The mount at its place in new_fd's mount; -EBUSY if another one is on top there. */
static int open_mount(const MountEntry *e, const char *top, int new_fd) {
        const char *path = path_startswith(e->target, top);
        int id, fd = path ? open_crossing(new_fd, path) : -ENOENT;

        if (fd < 0)
                return fd;
        id = fd_mount_id(fd);
        if (id == e->id)
                return fd;
        (void) close(fd);
        return id < 0 ? id : -EBUSY;
}

int child_mounts_drop(const MountTable *t, int old_id, int new_fd, Failure *reterr) {
        int new_id = fd_mount_id(new_fd);
        const MountEntry *new = new_id < 0 ? NULL : mount_table_find(t, new_id);

        if (!new)
                return new_id < 0 ? new_id : -ENOENT;
        for (size_t i = 0; i < t->n; i++) {
                const MountEntry *e = t->items + i;
                _cleanup_close_ int fd = -EBADF;
                int r;

                if (e->parent_id != new_id || e->id == old_id || e->id == new_id)
                        continue;
                r = fd = open_mount(e, new->target, new_fd);
                if (r >= 0)
                        r = mount_detach_top(fd);
                if (r < 0)
                        return failure_set_errno(
                                reterr, r, "cannot replace the copy of what is mounted at '%s' (%s)",
                                e->target, e->type);
        }
        return 0;
}

typedef struct Propagation {
        const MountTable *before, *now;
        const char *top; /* the mount point of the overlay */
        int fd;          /* of the new mount */
} Propagation;

static int set_propagation(int fd, unsigned long propagation) {
        struct mount_attr a = { .propagation = propagation };

        return mount_setattr(fd, "", AT_EMPTY_PATH, &a, sizeof(a)) < 0 ? -errno : 0;
}

/* Copies are in the peer groups of what they are copies of, but attached to a shared mount all become
 * shared. A private mount may have no flag at all. */
static int restore(const MountEntry *was, const MountEntry *is, int fd) {
        unsigned long one = was->propagation_flags & MS_SHARED ? MS_SHARED
                : was->propagation_flags & MS_SLAVE            ? MS_SLAVE
                : was->propagation_flags & MS_UNBINDABLE       ? MS_UNBINDABLE
                                                               : MS_PRIVATE;

        return strcmp(was->propagation, is->propagation) == 0 ? 0 : set_propagation(fd, one);
}

static int restore_below(const Propagation *p, int was_id, int is_id) {
        int first = 0;

        for (size_t i = 0; i < p->before->n; i++) {
                const MountEntry *was = p->before->items + i;

                for (size_t k = 0; k < p->now->n; k++) {
                        const MountEntry *is = p->now->items + k;
                        _cleanup_close_ int fd = -EBADF;
                        int r;

                        if (was->parent_id != was_id || is->parent_id != is_id ||
                            !is_alike(p->before, was, p->now, is))
                                continue;
                        r = fd = open_mount(is, p->top, p->fd);
                        if (r >= 0)
                                r = restore(was, is, fd);
                        if (r >= 0)
                                r = restore_below(p, was->id, is->id);
                        first = first < 0 ? first : r;
                }
        }
        return first;
}

int mounts_copy_propagation(const MountTable *before, int old_id, int new_fd) {
        _cleanup_table_ MountTable now = { 0 };
        int new_id = fd_mount_id(new_fd), r = new_id < 0 ? new_id : mount_table_read(MOUNTINFO, &now);
        const MountEntry *was = mount_table_find(before, old_id), *is = mount_table_find(&now, new_id);
        const Propagation p = { .before = before, .now = &now, .top = is ? is->target : "", .fd = new_fd };

        if (r < 0 || !was || !is)
                return r < 0 ? r : -ENOENT;
        r = restore(was, is, new_fd);
        return r < 0 ? r : restore_below(&p, old_id, new_id);
}

static bool stands_on(const MountTable *t, const MountEntry *e, int id) {
        for (size_t n = 0; e && n <= t->n; n++) {
                if (e->parent_id == id)
                        return true;
                e = e->parent_id == e->id ? NULL : mount_table_find(t, e->parent_id);
        }
        return false;
}

static int refuse_child(const MountEntry *e, const Overlay *o, Failure *reterr, const char *why) {
        return failure_set(
                reterr, FAILURE_PRECONDITION, EOPNOTSUPP,
                "'%s' cannot be swapped while a %s mount is at '%s', which %s; unmount that first",
                o->mount_point, e->type, e->target, why);
}

int child_mounts_check(const MountTable *t, const Overlay *o, Failure *reterr) {
        for (size_t i = 0; i < t->n; i++) {
                const MountEntry *e = t->items + i;

                if (!stands_on(t, e, o->mount_id))
                        continue;
                if (strcmp(e->type, "autofs") == 0)
                        return refuse_child(
                                e, o, reterr, "belongs to the process that set it up and cannot be copied");
                if (e->propagation_flags & MS_UNBINDABLE)
                        return refuse_child(e, o, reterr, "is unbindable and cannot be copied");
                if (e->device == o->device)
                        return refuse_child(
                                e, o, reterr,
                                "is a part of the overlay itself and would stay with the old superblock");
        }
        return 0;
}

/* /proc/self/fd leads to the mount itself, or to what stands on its root: nothing does, or it would not be
 * on top. */
int mount_detach_top(int root_fd) {
        char path[PROC_FD_MAX];

        proc_fd_path(path, root_fd, "");
        return umount2(path, MNT_DETACH) < 0 ? -errno : 0;
}
