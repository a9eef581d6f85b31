/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whoever walks a path holds the mount at its end for a moment, and that moment becomes longer when others
 * work on mounts: open_tree() waits for them then, and holds the mount as long. umount() in that moment says
 * EBUSY. So a path is walked in a copy of the mount namespace where that is possible. */
#include "core/mount/mount-clone.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#include "core/mount/mount-table.h"

#define CACHED_TRIES 1000 /* half a millisecond in all, if the name is not in memory */

/* A mount that may not be bound elsewhere (MS_UNBINDABLE), one with mounts on it that whoever made this
 * namespace has locked, and a caller without CAP_SYS_ADMIN. */
static bool is_not_cloned(int error) {
        return error == EINVAL || error == EPERM;
}

/* The path is walked in the mount as it is, which is then held for no longer than the call lasts. */
static int clone_at(int dfd, const char *path, int flags) {
        struct mount_attr attr = { .propagation =
                                           MS_PRIVATE }; /* what is mounted later does not come here */
        _cleanup_close_ int tree =
                open_tree(dfd, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (path[0] ? 0 : AT_EMPTY_PATH));
        int fd;

        if (tree < 0)
                return -errno;
        if (mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
                return -errno;
        fd = openat(tree, ".", flags | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

/* Who has d_weak_revalidate(): the root of a mount is asked for at its server. */
static bool is_asked_for(const MountEntry *e) {
        static const char *const types[] = { "nfs", "nfs4", "9p", "afs" };

        for (size_t i = 0; i < ELEMENTSOF(types); i++)
                if (strcmp(e->type, types[i]) == 0)
                        return true;
        return false;
}

/* An overlay asks its lower layers. */
bool mount_walk_may_wait(const MountTable *t, const char *path) {
        const MountEntry *e = mount_table_reach(t, path);

        if (!e || is_asked_for(e))
                return true;
        for (size_t i = 0; strcmp(e->type, "overlay") == 0 && i < t->n; i++)
                if (is_asked_for(t->items + i))
                        return true;
        return false;
}

int mount_open_cached(int dfd, const char *path, uint64_t resolve) {
        struct open_how how = { .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                                .resolve = RESOLVE_CACHED | resolve };
        int fd = -EAGAIN;

        for (unsigned i = 0; fd == -EAGAIN && i < CACHED_TRIES; i++) {
                fd = (int) syscall(SYS_openat2, dfd, path, &how, sizeof(how));
                if (fd < 0)
                        fd = -errno;
        }
        return fd;
}

typedef struct Walk {
        const char *path;
        mount_func func; /* may be NULL */
        void *userdata;
        int fd;
        int result; /* of func */
} Walk;

/* The copy goes with this thread, all but what is open. It holds all file systems of the machine, so nothing
 * in here may wait: only names that the kernel has in memory are followed. */
static void *walk_in_copy(void *userdata) {
        Walk *w = userdata;

        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                w->fd = -errno;
        else {
                w->fd = mount_open_cached(AT_FDCWD, w->path, 0);
                if (w->fd >= 0 && w->func)
                        w->result = w->func(w->fd, w->userdata);
        }
        return NULL;
}

/* Opens w->fd. */
static int walk(Walk *w) {
        _cleanup_table_ MountTable t = { 0 };
        pthread_t thread;
        int r = mount_table_read(MOUNTINFO, &t);

        if (r < 0)
                return r;
        if (mount_walk_may_wait(&t, w->path))
                return -EAGAIN;
        r = -pthread_create(&thread, NULL, walk_in_copy, w);
        if (r < 0)
                return r;
        (void) pthread_join(thread, NULL);
        return w->fd < 0 ? w->fd : 0;
}

static int open_in_copy(const char *path, int flags) {
        Walk w = { .path = path, .fd = -EBADF };
        int fd, r = walk(&w);

        if (r < 0)
                return r;
        fd = openat(w.fd, ".", flags | O_DIRECTORY | O_CLOEXEC);
        r = fd < 0 ? -errno : fd;
        (void) fd_close(w.fd);
        return r;
}

int mount_call_attached(const char *path, mount_func func, void *userdata) {
        Walk w = { .path = path, .func = func, .userdata = userdata, .fd = -EBADF };

        if (walk(&w) >= 0)
                (void) fd_close(w.fd);
        else {
                _cleanup_close_ int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

                w.result = fd < 0 ? -errno : func(fd, userdata);
        }
        return w.result;
}

int mount_clone_open(const char *path, int flags) {
        int fd = open_in_copy(path, flags);

        if (fd < 0)
                fd = clone_at(AT_FDCWD, path, flags);
        if (fd >= 0 || !is_not_cloned(-fd))
                return fd;
        fd = open(path, flags | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

int mount_clone_fd(int dfd, int flags) {
        int fd = clone_at(dfd, "", flags);

        if (fd >= 0 || !is_not_cloned(-fd))
                return fd;
        fd = openat(dfd, ".", flags | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}
