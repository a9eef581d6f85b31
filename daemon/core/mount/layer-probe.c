/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One question to one other overlay. It may hang, so it runs in a thread of its own (patience.h); it holds
 * a copy of the mount, and its marks last for one listing. */
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

#include "base/fs-util.h"
#include "base/proc-scan.h"
#include "core/mount/mount-clone.h"

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
                free(p->paths[i].link);
        }
        free(p->paths);
        free(p->inodes);
        free(p->mount_point);
        free(p->root);
        free(p->namespace);
        free(p->where);
        (void) fd_close(p->fanotify_fd);
        free(p);
}

int layer_probe_add(LayerProbe *p, const char *path, bool is_read) {
        LayerPath *paths = reallocarray(p->paths, p->n_paths + 1, sizeof(*paths));

        if (!paths)
                return -ENOMEM;
        p->paths = paths;
        paths[p->n_paths] = (LayerPath){ .given = strdup(path), .is_read = is_read };
        if (!paths[p->n_paths].given)
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
        ino_t *inodes;

        for (size_t i = 0; i < p->n_inodes; i++)
                if (p->inodes[i] == inode)
                        return 0;
        inodes = reallocarray(p->inodes, p->n_inodes + 1, sizeof(*inodes));
        if (!inodes)
                return -ENOMEM;
        p->inodes = inodes;
        inodes[p->n_inodes++] = inode;
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

/* What this thread made the kernel read. Others read directories of the overlay meanwhile. */
static int take_event(LayerProbe *p, const struct fanotify_event_metadata *e) {
        _cleanup_close_ int fd = e->fd;
        struct stat st;

        if (e->mask & FAN_Q_OVERFLOW)
                return -ENOBUFS;
        if (fd < 0 || e->pid != gettid())
                return 0;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (st.st_dev == p->device)
                return add_inode(p, st.st_ino);
        note_witness(p, &st);
        return 0;
}

static int take_events(LayerProbe *p) {
        _Alignas(struct fanotify_event_metadata) char buffer[4096];
        ssize_t n;
        int r = 0;

        while ((n = read(p->fanotify_fd, buffer, sizeof(buffer))) > 0) {
                const struct fanotify_event_metadata *e = (const void *) buffer;

                for (; FAN_EVENT_OK(e, n); e = FAN_EVENT_NEXT(e, n)) {
                        int k = take_event(p, e);

                        r = r < 0 ? r : k;
                }
        }
        return r < 0 ? r : n < 0 && errno != EAGAIN ? -errno : 0;
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

/* A mount can be copied in its own namespace only. This thread is there for the probe alone. */
static void enter_namespace(const LayerProbe *p) {
        _cleanup_close_ int fd = open(p->namespace, O_RDONLY | O_CLOEXEC);

        if (fd >= 0 && unshare(CLONE_FS) >= 0)
                (void) setns(fd, CLONE_NEWNS);
}

/* A copy of our own of the mount, so that the other overlay can be unmounted meanwhile: busy for the moment
 * of the call. Should there be none, it is for the whole listing. What symlinks led to, open_other() tells.
 */
static int hold_other(const LayerProbe *p, int root_fd) {
        const char *below = p->where + strspn(p->where, "/");
        int fd = open_tree(
                root_fd, below,
                OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT |
                        (below[0] ? 0 : AT_EMPTY_PATH));

        return fd >= 0 ? fd : open_in_root(root_fd, p->where, O_PATH, RESOLVE_NO_SYMLINKS);
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

/* The marks are there for the listing alone. */
static int list_marked(LayerProbe *p, int own_fd, int root_fd) {
        _cleanup_close_ int held_fd = hold_other(p, root_fd),
                            fd = held_fd < 0 ? held_fd : open_other(p, held_fd);
        int r;

        if (fd < 0)
                return fd;
        if (fanotify_mark(p->fanotify_fd, FAN_MARK_ADD | MARK_FLAGS, READ_EVENTS, own_fd, ".") < 0)
                return -errno;
        r = list_root(fd);
        (void) fanotify_mark(p->fanotify_fd, FAN_MARK_FLUSH | MARK_FLAGS, 0, AT_FDCWD, NULL);
        return r < 0 ? r : take_events(p);
}

/* Most who list a directory have ended a moment later. */
static int read_layers(LayerProbe *p, int own_fd, int root_fd) {
        for (unsigned i = 0;; i++) {
                int r = list_marked(p, own_fd, root_fd);

                if (r < 0 || p->n_inodes > 0 || p->is_fresh || !p->has_witness || i == READ_TRIES)
                        return r;
                (void) poll(NULL, 0, READ_PAUSE_MSEC);
        }
}

static void mark_witness(LayerProbe *p, int fd) {
        p->has_witness |= fanotify_mark(p->fanotify_fd, FAN_MARK_ADD, READ_EVENTS, fd, ".") >= 0;
}

/* Where the path leads now. What cannot be opened stays unknown. */
static int look_at_path(LayerProbe *p, int root_fd, LayerPath *l) {
        _cleanup_close_ int fd = open_in_root(root_fd, l->given, O_PATH, 0);
        struct statx st;

        if (fd < 0 || statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_MNT_ID, &st) < 0)
                return 0;
        l->device = makedev(st.stx_dev_major, st.stx_dev_minor);
        l->inode = st.stx_ino;
        l->mount_id = (int) st.stx_mnt_id;
        l->is_elsewhere = l->device != p->device;
        if (is_witness(l))
                mark_witness(p, fd);
        return !l->is_elsewhere && fd_path(fd, &l->link) == -ENOMEM ? -ENOMEM : 0;
}

int layer_probe_run(void *probe) {
        LayerProbe *p = probe;
        _cleanup_close_ int root_fd = open(p->root, O_PATH | O_DIRECTORY | O_CLOEXEC),
                            own_fd = mount_clone_open(p->mount_point, O_PATH);
        int r;

        if (root_fd < 0 || !proc_read_link(AT_FDCWD, p->root, p->root_link))
                return -ESRCH;
        r = own_fd < 0 ? own_fd : is_on(own_fd, p->device);
        if (r <= 0)
                return r < 0 ? r : -EXDEV;
        r = 0;
        for (size_t i = 0; r >= 0 && i < p->n_paths; i++)
                r = look_at_path(p, root_fd, p->paths + i);
        enter_namespace(p); /* from here on, paths from "/" lead elsewhere */
        if (r >= 0)
                r = read_layers(p, own_fd, root_fd);
        (void) fanotify_mark(p->fanotify_fd, FAN_MARK_FLUSH, 0, AT_FDCWD, NULL);
        return r;
}
