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
        return RESULT_BLOCKED;
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

typedef struct Follow {
        Mark *m;
        moved_func func;
} Follow;

static int handle(const struct inotify_event *e, void *userdata) {
        const Follow *f = userdata;
        MarkDirectory *d;

        if (e->mask & IN_Q_OVERFLOW) {
                note_overflow(f->m);
                return 0;
        }
        d = find(f->m, e->wd);
        if (!d)
                return 0;
        if (e->mask & (IN_MOVE_SELF | IN_DELETE_SELF)) {
                mark_block(d, DIRECTORY_PENDING, "it was moved or removed while it was prepared; try again");
                return 0;
        }
        return e->mask & IN_MOVED_TO && e->len > 0 ? f->func(f->m, d, e->name) : 0;
}

int mark_follow(Mark *m, moved_func func) {
        Follow f = { .m = m, .func = func };

        return inotify_foreach(m->inotify_fd, handle, &f);
}
