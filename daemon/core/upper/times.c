/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/upper/times.h"

#include <string.h>
#include <sys/inotify.h>

#include "base/fs-util.h"

#define NAME_EVENTS (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO)

void times_guard_begin(TimesGuard *g, int dir_fd) {
        struct stat st;

        *g = (TimesGuard){ .dir_fd = dir_fd, .inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK) };
        if (g->inotify_fd < 0)
                return;
        if (inotify_watch_fd(g->inotify_fd, dir_fd, NAME_EVENTS) < 0 || fstat(dir_fd, &st) < 0)
                g->inotify_fd = fd_close(g->inotify_fd);
        else
                g->before = st.st_mtim;
}

static bool is_ours(const struct inotify_event *e, const char *const *names) {
        if (e->mask & (IN_Q_OVERFLOW | IN_UNMOUNT))
                return false;
        for (; *names; names++)
                if (e->len == 0 || strcmp(e->name, *names) == 0)
                        return true;
        return false;
}

static bool only_ours(int inotify_fd, const char *const *names) {
        _Alignas(struct inotify_event) char buffer[4096];
        ssize_t n;

        while ((n = read(inotify_fd, buffer, sizeof(buffer))) > 0)
                for (char *p = buffer; p < buffer + n;) {
                        const struct inotify_event *e = (const struct inotify_event *) p;

                        if (!is_ours(e, names))
                                return false;
                        p += sizeof(*e) + e->len;
                }
        return n < 0 && errno == EAGAIN;
}

void times_guard_end(TimesGuard *g, const char *const *names) {
        if (g->inotify_fd >= 0 && only_ours(g->inotify_fd, names))
                (void) futimens(g->dir_fd, (struct timespec[2]){ { .tv_nsec = UTIME_OMIT }, g->before });
        g->inotify_fd = fd_close(g->inotify_fd);
}
