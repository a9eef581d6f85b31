/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* read() opens the directory of an event. If that fails, the event is gone and the next one is told all the
 * same (copy_event_to_user()), so it is the size of the queue that says when to stop. */
#include "core/mount/own-reads.h"

#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/macro.h"

static int take(const struct fanotify_event_metadata *e, own_read_func func, void *userdata) {
        _cleanup_close_ int fd = e->fd;

        if (e->mask & FAN_Q_OVERFLOW)
                return -ENOBUFS;
        return fd >= 0 && e->pid == gettid() ? func(fd, userdata) : 0;
}

static int take_some(int fanotify_fd, own_read_func func, void *userdata) {
        _Alignas(struct fanotify_event_metadata) char buffer[4096];
        const struct fanotify_event_metadata *e = (const void *) buffer;
        ssize_t n = read(fanotify_fd, buffer, sizeof(buffer));
        int r = 0;

        if (n < 0)
                return errno == EINTR || errno == EAGAIN ? 0 : -errno;
        for (; FAN_EVENT_OK(e, n); e = FAN_EVENT_NEXT(e, n)) {
                int k = take(e, func, userdata);

                r = r < 0 ? r : k;
        }
        return r;
}

int own_reads_foreach(int fanotify_fd, own_read_func func, void *userdata) {
        int left, r = 0;

        for (;;) {
                int k;

                if (ioctl(fanotify_fd, FIONREAD, &left) < 0)
                        return -errno;
                if (left == 0)
                        return r;
                k = take_some(fanotify_fd, func, userdata);
                r = r < 0 ? r : k;
        }
}
