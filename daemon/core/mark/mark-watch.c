/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Renames in the directories being marked, by inotify on the upper, which pins nothing of the overlay
 * (docs/overlayfs.md 6.4). A listing can miss an entry that is renamed while it runs; its event does not. A
 * queue that has overflowed means that every directory needs another round. */
#include <sys/inotify.h>

#include "base/fs-util.h"
#include "core/mark/mark-internal.h"

int mark_watch(Mark *m, MarkDirectory *d) {
        int r = inotify_watch_fd(
                m->inotify_fd, d->upper_fd, IN_MOVED_TO | IN_MOVE_SELF | IN_DELETE_SELF | IN_ONLYDIR);

        if (r >= 0) {
                d->watch = r;
                return 0;
        }
        if (r != -ENOSPC)
                return r;
        mark_block(
                d, DIRECTORY_EXCLUDED,
                "the limit of inotify watches is reached; raise fs.inotify.max_user_watches");
        return -EUCLEAN;
}

static void note_overflow(Mark *m) {
        for (size_t i = 0; i < m->n; i++)
                m->items[i].needs_another_round = true;
}

static MarkDirectory *find(Mark *m, int watch) {
        for (size_t i = 0; i < m->n; i++)
                if (m->items[i].watch == watch && !m->items[i].is_out)
                        return m->items + i;
        return NULL;
}

static int handle(Mark *m, const struct inotify_event *e, moved_func func) {
        MarkDirectory *d;

        if (e->mask & IN_Q_OVERFLOW) {
                note_overflow(m);
                return 0;
        }
        d = find(m, e->wd);
        if (!d)
                return 0;
        if (e->mask & (IN_MOVE_SELF | IN_DELETE_SELF)) {
                mark_block(d, DIRECTORY_PENDING, "it was moved or removed while it was prepared; try again");
                return 0;
        }
        return e->mask & IN_MOVED_TO && e->len > 0 ? func(m, d, e->name) : 0;
}

int mark_follow(Mark *m, moved_func func) {
        _Alignas(struct inotify_event) char buffer[16 * 1024];
        ssize_t n;

        while ((n = read(m->inotify_fd, buffer, sizeof(buffer))) > 0)
                for (char *p = buffer; p < buffer + n;) {
                        const struct inotify_event *e = (const struct inotify_event *) p;
                        int r = handle(m, e, func);

                        if (r < 0)
                                return r;
                        p += sizeof(*e) + e->len;
                }
        return n < 0 && errno != EAGAIN && errno != EINTR ? -errno : 0;
}
