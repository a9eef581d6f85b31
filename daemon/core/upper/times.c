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

/* -EEXIST: it is not about one of our names. */
static int check_name(const struct inotify_event *e, void *userdata) {
        if (e->mask & (IN_Q_OVERFLOW | IN_UNMOUNT))
                return -EEXIST;
        for (const char *const *names = userdata; *names; names++)
                if (e->len == 0 || strcmp(e->name, *names) == 0)
                        return 0;
        return -EEXIST;
}

void times_guard_end(TimesGuard *g, const char *const *names) {
        if (g->inotify_fd >= 0 && inotify_foreach(g->inotify_fd, check_name, (void *) names) == 0)
                (void) futimens(g->dir_fd, (struct timespec[2]){ { .tv_nsec = UTIME_OMIT }, g->before });
        g->inotify_fd = fd_close(g->inotify_fd);
}
