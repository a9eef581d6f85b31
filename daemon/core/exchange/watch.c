/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What happens in the directories of an old tree, by inotify. It only notes what is to be compared; sync.c
 * and reconcile.c do that. When the queue has overflowed, everything is to be compared. Events are queued
 * under the lock of the directory they happen in (docs/overlayfs.md 5.3), so what was done before a rename
 * of the directory took that lock is in the queue once the rename returns. */
#include <poll.h>
#include <sys/inotify.h>

#include "base/clock.h"
#include "base/fs-util.h"
#include "core/exchange/exchange-internal.h"

/* Attributes matter only of the directories themselves: files are the same inodes in both trees. */
#define WATCH_NAMES (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO)
#define WATCH_SELF (IN_MOVE_SELF | IN_DELETE_SELF | IN_ATTRIB)

int watch_open(Exchange *x) {
        x->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        return x->inotify_fd < 0 ? -errno : 0;
}

int watch_add(Exchange *x, Node *n, int fd) {
        int watch = inotify_watch_fd(x->inotify_fd, fd, WATCH_NAMES | WATCH_SELF | IN_ONLYDIR);

        if (watch < 0)
                return watch;
        node_set_watch(n, watch);
        return 0;
}

static int mark_dirty(Node *n, void *userdata) {
        const Exchange *x = userdata;

        node_recheck(n);
        /* After the exchange attributes are taken over only where it is known that somebody set them. */
        n->is_attributes_dirty |= x->phase < PHASE_EXCHANGED;
        return 0;
}

/* For a moment a path may have led to another directory than the one that was meant. What was read and done
 * by way of it is looked at again, all of it. */
static void doubt_directory(Exchange *x, const Node *n, const char *name) {
        const Entry *e = node_find(n, name);

        if (e && e->dir)
                (void) node_foreach(e->dir, mark_dirty, x);
}

/* Whether anything is to be compared. */
static bool handle_event(Exchange *x, const struct inotify_event *e) {
        Node *n;

        if (e->mask & IN_Q_OVERFLOW) {
                (void) tree_foreach(x->tree, mark_dirty, x);
                return true;
        }
        n = tree_find_watch(x->tree, e->wd);
        if (!n)
                return false;
        if (e->mask & IN_IGNORED) {
                node_set_watch(n, -1);
                return false;
        }
        if (e->mask & (IN_MOVE_SELF | IN_DELETE_SELF)) {
                if (n == x->tree->root && x->phase < PHASE_EXCHANGED)
                        x->has_moved = true;
                return n == x->tree->root;
        }
        if (e->mask & WATCH_NAMES) {
                if (e->len > 0)
                        node_note_change(n, e->name);
                if (e->len > 0 && (e->mask & IN_ISDIR) && x->phase < PHASE_REMOVE) /* then it is us */
                        doubt_directory(x, n, e->name);
                n->is_times_dirty = n->is_touched = true;
                x->changed_usec = now_monotonic_usec();
                return true;
        }
        if (e->len > 0)
                return false; /* attributes of an entry */
        n->is_attributes_dirty = n->is_touched = true;
        return true;
}

typedef struct EventReader {
        Exchange *x;
        bool changed;
} EventReader;

static int drain_event(const struct inotify_event *e, void *userdata) {
        EventReader *reader = userdata;

        reader->changed |= handle_event(reader->x, e);
        return 0;
}

int watch_drain(Exchange *x) {
        EventReader reader = { .x = x };
        int r = inotify_foreach(x->inotify_fd, drain_event, &reader);

        return r < 0 ? r : reader.changed;
}

int watch_wait(Exchange *x, int timeout_msec) {
        struct pollfd p = { .fd = x->inotify_fd, .events = POLLIN };
        int r = poll(&p, 1, timeout_msec);

        if (r < 0)
                return errno == EINTR ? 0 : -errno;
        return r;
}
