/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The guard: a thread that ends the worker when the overlay that it looks at is unmounted. It keeps nobody
 * from unmounting, but for a job that somebody asked for: that one holds the mount itself open as long as it
 * needs it (guard_use()), and is left alone. The process never ends because the mount table could not be
 * read. */

/* What we look through is a clone of the overlay's mount (core/mount/mount-clone.h). When the mount itself
 * goes, its file systems live on until the clones are closed, all at once: by the end of the process. A
 * worker may be killed at any instant anyway. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>

#include "core/mount/mount-table.h"
#include "worker/worker.h"

/* What cannot be read proves nothing. The number of a mount is soon given to another one, that of a
 * superblock that we hold is not. */
static bool is_gone(const Worker *w) {
        _cleanup_table_ MountTable t = { 0 };
        const MountEntry *e;

        if (mount_table_read(MOUNTINFO, &t) < 0)
                return false;
        e = mount_table_find(&t, w->guarded_id);
        return !e || e->device != w->guarded_device;
}

/* A job that somebody asked for goes on, should the mount be detached from under it (umount -l), until the
 * daemon cancels it. */
static void leave_if_gone(const Worker *w) {
        if (!atomic_load(&w->is_use) && is_gone(w))
                _exit(WORKER_EXIT_UNMOUNTED);
}

/* umount(2) wakes us before it returns. */
static void *stand_guard(void *userdata) {
        Worker *w = userdata;
        struct pollfd p = { .fd = w->mounts_fd, .events = POLLPRI };

        for (;;) {
                leave_if_gone(w);
                (void) poll(&p, 1, -1);
        }
        return NULL;
}

int guard_start(Worker *w) {
        pthread_t thread;

        w->guarded_id = w->overlay->mount_id;
        w->guarded_device = w->overlay->device;
        w->mounts_fd = open(MOUNTINFO, O_RDONLY | O_CLOEXEC);
        if (w->mounts_fd < 0)
                return -errno;
        return -pthread_create(&thread, NULL, stand_guard, w);
}

int guard_use(Worker *w) {
        w->mount_fd = open(w->overlay->mount_point, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (w->mount_fd < 0)
                return -errno;
        atomic_store(&w->is_use, true);
        return 0;
}

void guard_let_go(Worker *w) {
        if (w->mount_fd < 0)
                return;
        w->mount_fd = fd_close(w->mount_fd);
        atomic_store(&w->is_use, false);
        if (w->mounts_fd >= 0)
                leave_if_gone(w);
}
