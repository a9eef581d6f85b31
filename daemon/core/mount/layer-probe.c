/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One question to one other overlay. It may hang, so it runs in a thread of its own (patience.h). All that
 * it looks at it opens in a copy of the other mount namespace, which is gone before anything is asked that
 * may wait: so nothing that is mounted there is busy. Its marks last for one listing, since what others read
 * meanwhile waits in the queue, and an event holds its mount as long. */
#include "core/mount/layer-probe.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "base/path-util.h"
#include "base/proc-scan.h"
#include "core/mount/mount-clone.h"
#include "core/mount/mount-table.h"
#include "core/mount/own-reads.h"

#define MARK_FLAGS FAN_MARK_FILESYSTEM
#define READ_EVENTS (FAN_ACCESS | FAN_ONDIR)
#define READ_TRIES 5
#define READ_PAUSE_MSEC 10
#define LISTING_SIZE 4096 /* the kernel reads all layers before it gives the first names */

int layer_probe_open(void) {
        int fd = fanotify_init(
                FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK | FAN_REPORT_TID,
                O_RDONLY | O_CLOEXEC | O_LARGEFILE);

        return fd < 0 ? -errno : fd;
}

LayerProbe *layer_probe_new(int fanotify_fd) {
        LayerProbe *p = calloc(1, sizeof(LayerProbe));

        if (!p)
                return NULL;
        p->fanotify_fd = fcntl(fanotify_fd, F_DUPFD_CLOEXEC, 3);
        if (p->fanotify_fd < 0) {
                free(p);
                return NULL;
        }
        return p;
}

void layer_probe_free(void *probe) {
        LayerProbe *p = probe;

        if (!p)
                return;
        for (size_t i = 0; i < p->n_paths; i++) {
                free(p->paths[i].given);
                free(p->paths[i].path);
        }
        free(p->paths);
        free(p->inodes);
        free(p->mount_point);
        free(p->process);
        free(p->where);
        (void) fd_close(p->fanotify_fd);
        free(p);
}

int layer_probe_add(LayerProbe *p, const char *path, bool is_read) {
        if (!ARRAY_GROW(p->paths, p->n_paths))
                return -ENOMEM;
        p->paths[p->n_paths] = (LayerPath){ .given = strdup(path), .is_read = is_read, .fd = -EAGAIN };
        if (!p->paths[p->n_paths].given)
                return -ENOMEM;
        p->n_paths++;
        return 0;
}

static int open_in_root(int root_fd, const char *path, int flags, uint64_t resolve) {
        struct open_how how = {
                .flags = (uint64_t) (flags | O_DIRECTORY | O_CLOEXEC),
                .resolve = RESOLVE_IN_ROOT | resolve,
        };
        long fd = syscall(SYS_openat2, root_fd, path, &how, sizeof(how));

        return fd < 0 ? -errno : (int) fd;
}

static int add_inode(LayerProbe *p, ino_t inode) {
        for (size_t i = 0; i < p->n_inodes; i++)
                if (p->inodes[i] == inode)
                        return 0;
        if (!ARRAY_GROW(p->inodes, p->n_inodes))
                return -ENOMEM;
        p->inodes[p->n_inodes++] = inode;
        return 0;
}

static bool is_witness(const LayerPath *l) {
        return l->is_read && l->is_elsewhere;
}

static void note_witness(LayerProbe *p, const struct stat *st) {
        for (size_t i = 0; i < p->n_paths; i++)
                p->is_fresh |= is_witness(p->paths + i) && p->paths[i].device == st->st_dev &&
                        p->paths[i].inode == st->st_ino;
}

static int take_read(int fd, void *userdata) {
        LayerProbe *p = userdata;
        struct stat st;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (st.st_dev == p->device)
                return add_inode(p, st.st_ino);
        note_witness(p, &st);
        return 0;
}

static int list_root(int fd) {
        char names[LISTING_SIZE];

        return syscall(SYS_getdents64, fd, names, sizeof(names)) < 0 ? -errno : 0;
}

static int is_on(int fd, dev_t device) {
        struct stat st;

        if (fstat(fd, &st) < 0)
                return -errno;
        return st.st_dev == device;
}

/* The other overlay's surroundings, as one of its processes sees them. */
typedef struct View {
        MountTable table;
        char root[PATH_MAX]; /* of the process, from the root of the namespace */
        int process_fd;
        int namespace_fd;
        int links_fd; /* "/proc/self/fd": from "/" it is not found any more */
        int other_fd; /* root of the other overlay, O_PATH */
} View;

#define VIEW_INIT                                                                                           \
        (View) {                                                                                            \
                .process_fd = -EBADF, .namespace_fd = -EBADF, .links_fd = -EBADF, .other_fd = -EAGAIN,      \
        }

static void view_done(View *v) {
        mount_table_done(&v->table);
        (void) fd_close(v->process_fd);
        (void) fd_close(v->namespace_fd);
        (void) fd_close(v->links_fd);
        (void) fd_close(v->other_fd);
}

static int view_open(View *v, const LayerProbe *p) {
        _cleanup_free_ char *mountinfo = path_join(p->process, "mountinfo");
        int r;

        if (!mountinfo)
                return -ENOMEM;
        v->process_fd = open(p->process, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        v->namespace_fd = openat(v->process_fd, "ns/mnt", O_RDONLY | O_CLOEXEC);
        if (v->namespace_fd < 0 || !proc_read_link(v->process_fd, "root", v->root))
                return -ESRCH;
        r = mount_table_read(mountinfo, &v->table);
        if (r == -ENOMEM)
                return r;
        v->links_fd = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return r < 0 || v->table.n == 0 ? -ESRCH : v->links_fd < 0 ? -errno : 0;
}

/* What cannot be opened stays unknown. */
static int open_path(const View *v, int root_fd, LayerPath *l, bool is_copy) {
        char name[16], link[PATH_MAX];
        const char *below;

        l->fd = is_copy ? mount_open_cached(root_fd, l->given, RESOLVE_IN_ROOT)
                        : open_in_root(root_fd, l->given, O_PATH, 0);
        if (l->fd < 0)
                return 0;
        (void) snprintf(name, sizeof(name), "%d", l->fd);
        below = proc_read_link(v->links_fd, name, link) ? path_startswith(link, v->root) : NULL;
        if (!below)
                return 0;
        l->path = path_join("/", below);
        return l->path ? 0 : -ENOMEM;
}

static bool is_other(const LayerProbe *p, int fd) {
        struct statx st;

        return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_INO, &st) >= 0 &&
                makedev(st.stx_dev_major, st.stx_dev_minor) == p->other;
}

/* Only names that the kernel has in memory are followed: -EAGAIN stays for the others. Where the overlay has
 * gone nobody looks for its layers, which may go next. */
static int open_in_copy(LayerProbe *p, View *v) {
        _cleanup_close_ int root_fd = -EBADF;
        int r = 0;

        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                return 0;
        root_fd = mount_open_cached(AT_FDCWD, v->root, RESOLVE_NO_SYMLINKS);
        if (root_fd < 0)
                return 0;
        v->other_fd = mount_open_cached(root_fd, p->where, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS);
        if (v->other_fd == -EAGAIN)
                return 0;
        if (v->other_fd < 0 || !is_other(p, v->other_fd))
                return -EXDEV;
        for (size_t i = 0; r >= 0 && i < p->n_paths; i++)
                r = open_path(v, root_fd, p->paths + i, /* is_copy= */ true);
        return r;
}

/* Busy for the moment of the call. Should there be no copy of that mount, it is for the whole listing. What
 * symlinks led to, open_other() tells. */
static int hold_attached(const LayerProbe *p, int root_fd) {
        const char *below = p->where + strspn(p->where, "/");
        int fd = open_tree(
                root_fd, below,
                OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT |
                        (below[0] ? 0 : AT_EMPTY_PATH));

        return fd >= 0 ? fd : open_in_root(root_fd, p->where, O_PATH, RESOLVE_NO_SYMLINKS);
}

static int open_path_attached(const View *v, int root_fd, LayerPath *l) {
        int fd, r;

        if (l->fd != -EAGAIN)
                return 0;
        r = open_path(v, root_fd, l, /* is_copy= */ false);
        if (l->fd < 0)
                return r;
        fd = mount_clone_fd(l->fd, O_PATH);
        (void) fd_close(l->fd);
        l->fd = fd;
        return r;
}

/* What is left: by way of the mounts themselves, each for a moment. */
static int open_attached(LayerProbe *p, View *v) {
        _cleanup_close_ int root_fd = -EBADF;
        bool is_left = v->other_fd == -EAGAIN;
        int r = 0;

        for (size_t i = 0; i < p->n_paths; i++)
                is_left |= p->paths[i].fd == -EAGAIN;
        if (!is_left)
                return 0;
        root_fd = openat(v->process_fd, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (root_fd < 0)
                return -ESRCH;
        if (v->other_fd == -EAGAIN)
                v->other_fd = hold_attached(p, root_fd);
        if (v->other_fd < 0 || !is_other(p, v->other_fd))
                return v->other_fd < 0 ? v->other_fd : -EXDEV;
        for (size_t i = 0; r >= 0 && i < p->n_paths; i++)
                r = open_path_attached(v, root_fd, p->paths + i);
        return r;
}

/* A mount can be copied in its own namespace only. This thread is there for the probe alone, and stays in
 * the other namespace. The second setns() ends the copy. */
static int open_all(LayerProbe *p, View *v) {
        int r = 0;

        if (unshare(CLONE_FS) < 0)
                return -errno;
        if (setns(v->namespace_fd, CLONE_NEWNS) >= 0 && !mount_walk_may_wait(&v->table, p->where)) {
                r = open_in_copy(p, v);
                if (setns(v->namespace_fd, CLONE_NEWNS) < 0)
                        return -errno;
        }
        return r < 0 ? r : open_attached(p, v);
}

/* Without a trace in the access time, where that can be had. */
static int open_other(const LayerProbe *p, int held_fd) {
        _cleanup_close_ int fd = open_in_root(held_fd, ".", O_RDONLY | O_NOATIME | O_NONBLOCK, 0);
        int r;

        if (fd == -EPERM)
                fd = open_in_root(held_fd, ".", O_RDONLY | O_NONBLOCK, 0);
        r = fd < 0 ? fd : is_on(fd, p->other);
        return r < 0 ? r : r == 0 ? -EXDEV : TAKE_FD(fd);
}

static int set_marks(LayerProbe *p, int own_fd) {
        for (size_t i = 0; i < p->n_paths; i++)
                if (is_witness(p->paths + i))
                        p->has_witness |=
                                fanotify_mark(
                                        p->fanotify_fd, FAN_MARK_ADD, READ_EVENTS, p->paths[i].fd, ".") >= 0;
        return fanotify_mark(p->fanotify_fd, FAN_MARK_ADD | MARK_FLAGS, READ_EVENTS, own_fd, ".") < 0
                ? -errno
                : 0;
}

static void remove_marks(const LayerProbe *p) {
        (void) fanotify_mark(p->fanotify_fd, FAN_MARK_FLUSH | MARK_FLAGS, 0, AT_FDCWD, NULL);
        (void) fanotify_mark(p->fanotify_fd, FAN_MARK_FLUSH, 0, AT_FDCWD, NULL);
}

static int list_marked(LayerProbe *p, int own_fd, int other_fd) {
        _cleanup_close_ int fd = open_other(p, other_fd);
        int k, r;

        if (fd < 0)
                return fd;
        r = set_marks(p, own_fd);
        if (r >= 0)
                r = list_root(fd);
        remove_marks(p);
        k = own_reads_foreach(p->fanotify_fd, take_read, p);
        return r < 0 ? r : k;
}

/* Most who list a directory have ended a moment later. */
static int read_layers(LayerProbe *p, int own_fd, int other_fd) {
        for (unsigned i = 0;; i++) {
                int r = list_marked(p, own_fd, other_fd);

                if (r < 0 || p->n_inodes > 0 || p->is_fresh || !p->has_witness || i == READ_TRIES)
                        return r;
                (void) poll(NULL, 0, READ_PAUSE_MSEC);
        }
}

/* Mounts have other numbers in a copy, so that of the path is looked up. */
static void look_at_path(const LayerProbe *p, const View *v, LayerPath *l) {
        const MountEntry *e = l->path ? mount_table_reach(&v->table, l->path) : NULL;
        struct statx st;

        if (l->fd < 0 || statx(l->fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_INO, &st) < 0)
                return;
        l->device = makedev(st.stx_dev_major, st.stx_dev_minor);
        l->inode = st.stx_ino;
        l->mount_id = e ? e->id : 0;
        l->is_elsewhere = l->device != p->device;
}

static int look(LayerProbe *p, View *v, int own_fd) {
        int r = view_open(v, p);

        if (r < 0)
                return r;
        r = own_fd < 0 ? own_fd : is_on(own_fd, p->device);
        if (r <= 0)
                return r < 0 ? r : -EXDEV;
        r = open_all(p, v); /* from here on, paths from "/" lead elsewhere */
        if (r < 0)
                return r;
        for (size_t i = 0; i < p->n_paths; i++)
                look_at_path(p, v, p->paths + i);
        return v->other_fd < 0 ? v->other_fd : read_layers(p, own_fd, v->other_fd);
}

int layer_probe_run(void *probe) {
        LayerProbe *p = probe;
        _cleanup_(view_done) View v = VIEW_INIT;
        _cleanup_close_ int own_fd = mount_clone_open(p->mount_point, O_PATH);
        int r = look(p, &v, own_fd);

        for (size_t i = 0; i < p->n_paths; i++)
                p->paths[i].fd = fd_close(p->paths[i].fd);
        return r;
}
