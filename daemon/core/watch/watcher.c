/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/watch/watcher.h"

#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fs-util.h"
#include "core/upper/names.h"
#include "core/watch/watcher-internal.h"

/* Events are gathered: they wake us up so often at most, and are told so often. The kernel's queue holds
 * 16384 by default. */
#define DRAIN_USEC (USEC_PER_SEC / 5)
#define TELL_USEC USEC_PER_SEC
#define TELL_MOST 128 /* directories at a time; the others wait for their turn */
#define STATUS_USEC USEC_PER_SEC
/* What a directory that is visited for the first time, or again, may cost: a part of the time, and a rate
 * where the lower layer is fast. */
#define NEW_SHARE 4u
#define NEW_PAUSE_USEC 250u
#define AGAIN_SHARE 20u
#define AGAIN_PAUSE_USEC 10000u
/* Visits go in groups, so that we are woken less often; what each may cost stays the same. */
#define GROUP_MOST 16
#define GROUP_USEC (2 * USEC_PER_MSEC)
/* From walk to walk: short while the overlay is used, then so many times as long each time. */
#define WALK_SOON_USEC USEC_PER_SEC
#define WALK_FIRST_USEC (5 * USEC_PER_SEC)
#define WALK_LAST_USEC (600 * USEC_PER_SEC)
#define WALK_GROWTH 8u
#define WALK_GROWTH_TIGHT 2u /* what has no watch just now may be used without our knowing */
/* Walks go where something is used. Every so often, and always when nothing is, they also go to some of the
 * others, in turn. */
#define ROUND_EVERY 8
#define ROUND_USEC (60 * USEC_PER_SEC)
#define ROUND_MOST 500

static uint64_t earlier(uint64_t a, uint64_t b) {
        return a < b ? a : b;
}

/* Events. */

/* Of an exchange both halves are told, and the order says nothing: the next walk looks what stands there. */
static void directory_changed(Watcher *w, WatchNode *n, const char *name, uint32_t mask) {
        WatchNode *child = mask & IN_CREATE ? NULL : watch_node_find(w, n, name);

        if (child)
                watch_node_drop(w, child);
        n->is_near = true;
        w->want_walk |= globs_step(&w->want, n->states, name) != 0 && !is_staging_name(name);
}

static void handle_name(Watcher *w, WatchNode *n, const struct inotify_event *e) {
        const char *name = e->len > 0 ? e->name : "";

        if (e->mask & IN_OPEN) {
                if (!(e->mask & IN_ISDIR) && name[0] != '\0')
                        watch_node_count(w, n, name);
                return;
        }
        if (e->mask & IN_ISDIR)
                directory_changed(w, n, name, e->mask);
        else
                n->is_near = true; /* it may be a symlink */
}

/* What happened to the directory itself. */
static void handle_self(Watcher *w, WatchNode *n, uint32_t mask) {
        if (mask & IN_OPEN) {
                if (w->visiting == n)
                        w->visiting = NULL;
                else if (!watcher_is_looked_at(w, n))
                        watch_node_count(w, n, "");
        } else if (mask & IN_IGNORED)
                watch_node_set_wd(w, n, -1);
        else if (mask & (IN_DELETE_SELF | IN_MOVE_SELF)) {
                /* The parent knows best what stands there now. */
                if (n->parent)
                        n->parent->is_near = true;
                watch_node_drop(w, n);
        }
}

static int handle_event(const struct inotify_event *e, void *userdata) {
        Watcher *w = userdata;
        WatchNode *n;

        if (e->mask & IN_Q_OVERFLOW) {
                w->n_overflows++;
                w->want_walk = true;
                for (size_t i = 0; i < w->n_nodes; i++)
                        w->nodes[i]->is_near = true; /* whatever may have happened there */
                return 0;
        }
        n = watch_node_find_wd(w, e->wd);
        if (n && e->len > 0)
                handle_name(w, n, e);
        else if (n)
                handle_self(w, n, e->mask);
        return 0;
}

static int drain(Watcher *w) {
        w->now_usec = now_monotonic_usec();
        return inotify_foreach(w->inotify_fd, handle_event, w);
}

/* Telling. */

static const char *why_incomplete(const Watcher *w, uint64_t n_left_out) {
        if (n_left_out == 0)
                return w->n_overflows > 0 ? "more was going on than inotify could tell; some of it was not "
                                            "counted (see fs.inotify.max_queued_events)"
                                          : NULL;
        return w->is_kernel_limit ? "the limit of inotify watches is reached, directories take turns; raise "
                                    "fs.inotify.max_user_watches"
                                  : "there are more directories than MaxWatches=, they take turns";
}

static int tell_status(Watcher *w, uint64_t now, bool is_busy) {
        WatcherStatus s = { .is_busy = is_busy, .n_watches = w->n_watches, .n_overflows = w->n_overflows };
        uint64_t n_wanted = 0;

        for (size_t i = 0; i < w->n_nodes; i++) {
                const WatchNode *n = w->nodes[i];

                n_wanted += !n->is_gone && n->states != 0;
                s.n_known += !n->is_gone && watch_node_matches(w, n);
                s.n_left_out += !n->is_gone && n->states != 0 && n->wd < 0 && !n->is_new && !n->is_paused;
        }
        if (n_wanted <= w->n_limit) /* they have just been put in place, or are paused */
                s.n_left_out = 0;
        s.reason = why_incomplete(w, s.n_left_out);
        w->was_busy = is_busy;
        w->status_usec = now + STATUS_USEC;
        return w->config->status(&s, w->config->userdata);
}

static int tell_one(Watcher *w, WatchNode *n) {
        uint64_t n_opens = (uint64_t) n->n_opens + n->n_listed, n_counted = n->n_counted;
        char path[PATH_MAX];

        for (; n->n_listed > 0; n->n_listed--)
                n_counted +=
                        watch_opens_count(&n->opens, "", w->n_nodes, w->now_usec, w->config->window_usec);
        watch_node_discount(n);
        /* The root is always merged, so its heat is of no use; workers for other overlays open it, too. */
        if (n_opens == 0 || !n->parent || watch_node_path(n, path) < 0)
                return 0;
        return w->config->heat(path, n_opens, n_counted, w->config->userdata);
}

static int take_control(Watcher *w);

/* Those whose turn it is, in the order in which they came to be used. */
static int tell_heat(Watcher *w, uint64_t now) {
        int r;

        w->tell_usec = now + TELL_USEC;
        /* Who was at work when the last events were read has been announced before. */
        r = take_control(w);
        for (unsigned i = 0; r == 0 && w->used && i < TELL_MOST; i++) {
                WatchNode *n = w->used;

                w->used = n->next_used;
                if (!w->used)
                        w->used_end = &w->used;
                n->is_used = false;
                r = tell_one(w, n);
        }
        return r;
}

/* Walking. */

static bool is_walking(const Watcher *w) {
        return w->cursor < w->n_nodes;
}

static void begin_walk(Watcher *w) {
        if (w->is_kernel_limit) { /* it may have been raised */
                w->is_kernel_limit = false;
                w->n_limit = w->config->max_watches;
        }
        watch_nodes_compact(w);
        watcher_share_watches(w);
        w->round_begin = w->round_end < w->n_nodes ? w->round_end : 0;
        w->round_end = w->round_begin;
        if (++w->n_walks % ROUND_EVERY == 0 || w->walk_pause_usec >= ROUND_USEC)
                w->round_end += ROUND_MOST;
        w->want_walk = w->has_events = false;
        w->cursor = 0;
}

static uint64_t next_walk_pause(const Watcher *w) {
        uint64_t pause = w->walk_pause_usec * (w->is_tight ? WALK_GROWTH_TIGHT : WALK_GROWTH);

        return w->has_events || pause == 0 ? WALK_FIRST_USEC : earlier(pause, WALK_LAST_USEC);
}

static int end_walk(Watcher *w, uint64_t now) {
        int r;

        for (size_t i = 0; i < w->n_nodes; i++) {
                w->nodes[i]->warmth /= 2;
                w->nodes[i]->is_near = false;
                w->nodes[i]->opens = watch_opens_expire(w->nodes[i]->opens, now, w->config->window_usec);
        }
        for (WatchNode *n = w->used; n; n = n->next_used) {
                for (WatchNode *p = n->parent; p && !n->is_gone; p = p->parent)
                        p->is_near = true;
        }
        w->walk_pause_usec = next_walk_pause(w);
        w->walk_usec = now + (w->want_walk ? WALK_SOON_USEC : w->walk_pause_usec);
        r = tell_status(w, now, /* is_busy= */ w->want_walk);
        w->n_overflows = 0; /* what was missed has been looked for */
        return r;
}

static WatchNode *next_to_visit(Watcher *w) {
        while (is_walking(w)) {
                bool has_turn = w->cursor >= w->round_begin && w->cursor < w->round_end;
                WatchNode *n = w->nodes[w->cursor++];

                if (!n->is_gone && n->states != 0 && (has_turn || watcher_needs_visit(w, n)))
                        return n;
        }
        return NULL;
}

/* *pause_usec grows by what the visit has to cost in time. */
static int visit_one(Watcher *w, WatchNode *n, uint64_t *pause_usec) {
        uint64_t begin = now_monotonic_usec(), took;
        bool was_new = n->is_new;
        int r = watcher_visit(w, n);

        if (r >= 0)
                r = drain(w);
        w->visiting = NULL;
        took = now_monotonic_usec() - begin;
        *pause_usec += was_new ? took * NEW_SHARE + NEW_PAUSE_USEC : took * AGAIN_SHARE + AGAIN_PAUSE_USEC;
        return r;
}

static int visit_some(Watcher *w) {
        uint64_t begin = now_monotonic_usec(), pause = 0;
        int r = watcher_open_root(w);

        for (unsigned i = 0; r >= 0 && i < GROUP_MOST && now_monotonic_usec() - begin < GROUP_USEC; i++) {
                WatchNode *n = next_to_visit(w);

                if (!n)
                        break;
                r = visit_one(w, n, &pause);
        }
        w->root_fd = fd_close(w->root_fd);
        w->visit_usec = begin + pause;
        return r;
}

/* All watches may be dead, and do not tell. */
static int rearm_all(Watcher *w) {
        int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

        if (fd < 0)
                return -errno;
        (void) drain(w);
        for (size_t i = 0; i < w->n_nodes; i++) {
                watch_node_set_wd(w, w->nodes[i], -1);
                w->nodes[i]->is_new = true;
        }
        (void) fd_close(w->inotify_fd);
        w->inotify_fd = fd;
        w->walk_usec = 0;
        w->want_walk = true;
        return 0;
}

/* Somebody of ours begins to work at path, or has ended. */
static int take_place(Watcher *w, const char *word, const char *path) {
        int r = drain(w);

        if (strcmp(word, "look") == 0)
                return r < 0 ? r : watcher_look(w, path);
        if (strcmp(word, "looked") == 0) {
                watcher_looked(w, path);
                return r;
        }
        if (strcmp(word, "resume") == 0)
                watcher_resume(w, path);
        else if (r >= 0)
                r = watcher_pause(w, path, strcmp(word, "pause-parents") == 0);
        w->want_walk = true;
        w->walk_usec = earlier(w->walk_usec, now_monotonic_usec() + WALK_SOON_USEC);
        return r;
}

/* The loop. */

/* 1: it is time to end. */
static int take_packet(Watcher *w, char *packet) {
        char *path;

        if (strcmp(packet, "cancel") == 0)
                return 1;
        if (strcmp(packet, "rearm") == 0)
                return rearm_all(w);
        path = strchr(packet, ' ');
        if (!path)
                return 0;
        *path++ = '\0';
        return take_place(w, packet, path);
}

/* All that has been said so far. */
static int take_control(Watcher *w) {
        char packet[PATH_MAX + 16];
        ssize_t n;
        int r = 0;

        while (r == 0 && (n = recv(w->config->control_fd, packet, sizeof(packet) - 1, MSG_DONTWAIT)) > 0) {
                packet[n] = '\0';
                r = take_packet(w, packet);
        }
        if (r != 0)
                return r;
        return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : 1;
}

static int wait_for_something(Watcher *w, uint64_t now) {
        struct pollfd p[] = {
                { .fd = w->config->control_fd, .events = POLLIN },
                { .fd = w->inotify_fd, .events = now >= w->drain_usec ? POLLIN : 0 },
        };
        /* After a slow answer the pause is long: whoever listens hears that we are alive. */
        uint64_t until = is_walking(w) ? earlier(w->visit_usec, w->status_usec) : w->walk_usec;
        int r, msec;

        if (w->used)
                until = earlier(until, w->tell_usec);
        if (now < w->drain_usec)
                until = earlier(until, w->drain_usec);
        msec = until <= now ? 0 : (int) ((until - now + USEC_PER_MSEC - 1) / USEC_PER_MSEC);
        r = poll(p, ELEMENTSOF(p), msec);
        if (r < 0)
                return errno == EINTR ? 0 : -errno;
        if (p[1].revents & POLLIN) {
                w->drain_usec = now_monotonic_usec() + DRAIN_USEC;
                w->has_events = true;
                r = drain(w);
                w->walk_usec =
                        earlier(w->walk_usec, now + (w->want_walk ? WALK_SOON_USEC : WALK_FIRST_USEC));
        }
        return p[0].revents ? (r < 0 ? r : take_control(w)) : r < 0 ? r : 0;
}

static int work(Watcher *w, uint64_t now) {
        int r = 0;

        if (w->used && now >= w->tell_usec)
                r = tell_heat(w, now);
        if (r == 0 && !is_walking(w) && now >= w->walk_usec)
                begin_walk(w);
        if (r != 0 || !is_walking(w))
                return r;
        if (!w->was_busy || now >= w->status_usec)
                r = tell_status(w, now, /* is_busy= */ true);
        if (r < 0 || now < w->visit_usec)
                return r;
        r = visit_some(w);
        return r < 0 || is_walking(w) ? r : end_walk(w, now);
}

static int open_watcher(Watcher *w, Failure *reterr) {
        static const char *const all[] = { "**", NULL };
        const WatcherConfig *c = w->config;
        char *const *want = c->directories && c->directories[0] ? c->directories : (char *const *) all;
        WatchNode *root;
        int r;

        r = globs_new(want, &w->want);
        if (r < 0)
                return failure_set_errno(reterr, r, "cannot use Directories=");
        r = globs_new(c->exclude, &w->exclude);
        if (r < 0)
                return failure_set_errno(reterr, r, "cannot use Exclude=");
        w->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        if (w->inotify_fd < 0)
                return failure_set_errno(reterr, -errno, "cannot use inotify");
        return watch_node_get(w, NULL, "", globs_begin(&w->want), &root);
}

static void watcher_done(Watcher *w) {
        watch_nodes_free(w);
        watcher_places_free(w);
        globs_done(&w->want);
        globs_done(&w->exclude);
        (void) fd_close(w->inotify_fd);
        (void) fd_close(w->root_fd);
}

int watcher_run(const WatcherConfig *c, Failure *reterr) {
        _cleanup_(watcher_done) Watcher w = {
                .config = c, .inotify_fd = -EBADF, .root_fd = -EBADF, .n_limit = c->max_watches
        };
        int r;

        w.used_end = &w.used;
        r = open_watcher(&w, reterr);
        while (r == 0) {
                r = wait_for_something(&w, now_monotonic_usec());
                if (r == 0)
                        r = work(&w, now_monotonic_usec());
        }
        return r < 0 ? failure_set_errno(reterr, r, "cannot watch '%s'", c->overlay->mount_point) : 0;
}
