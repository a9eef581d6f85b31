/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The old superblock after a swap: waits until nobody uses it, then has its work directory removed. A
 * descriptor of its root keeps its mount id and device from being given to another mount
 * (docs/overlayfs.md 7.8), so blockers_find() can tell who uses it. The work directory goes only when the
 * kernel says that the superblock is over. */
#include <poll.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs-util.h"
#include "core/mount/reconfigure.h"
#include "core/remount/remount-internal.h"
#include "core/remount/workdir.h"
#include "core/users/blockers.h"

#define LOOK_MIN_USEC (100 * USEC_PER_MSEC)
#define LOOK_MAX_USEC (10 * USEC_PER_SEC)
#define HOLDERS_NAMED 3

/* Processes that use the old superblock; mounts of it in other namespaces count as one each. */
typedef struct Holders {
        unsigned n;
        char who[320];
} Holders;

static void add_holder(Holders *h, const Blocker *b) {
        size_t used = strlen(h->who);

        if (h->n++ >= HOLDERS_NAMED)
                return;
        if (b->pid > 0)
                (void) snprintf(
                        h->who + used, sizeof(h->who) - used, "%s%d (%s, %s)", used ? ", " : "",
                        (int) b->pid, b->command, blocker_kind_to_string(b->kind));
        else
                (void) snprintf(
                        h->who + used, sizeof(h->who) - used, "%sa %s", used ? ", " : "",
                        blocker_kind_to_string(b->kind));
}

static bool is_named_before(const Blockers *l, size_t i) {
        for (size_t k = 0; k < i; k++)
                if (l->items[k].pid > 0 && l->items[k].pid == l->items[i].pid)
                        return true;
        return false;
}

static int holders_find(const Overlay *old, Holders *ret) {
        Blockers l = { 0 };
        int r = blockers_find(old, NULL, NULL, &l);

        *ret = (Holders){ 0 };
        for (size_t i = 0; r >= 0 && i < l.n; i++)
                if (!is_named_before(&l, i))
                        add_holder(ret, l.items + i);
        blockers_done(&l);
        return r;
}

/* A cancel, or the end of whoever asked, ends the pause within its steps. */
static void pause_for(const Context *context, uint64_t usec) {
        for (uint64_t t = 0; t < usec && !context_is_canceled(context); t += LOOK_MIN_USEC)
                (void) poll(NULL, 0, (int) (LOOK_MIN_USEC / USEC_PER_MSEC));
}

static void report(Drain *d, const Holders *h, bool is_read_only, drain_func func, void *userdata) {
        func(d, h->n, h->who, is_read_only, userdata);
}

static int wait_for_holders(Context *context, Drain *d, drain_func func, void *userdata) {
        const Overlay old = { .mount_id = d->mount_id, .device = d->device };
        bool is_read_only = false, was_read_only = false;
        Holders h = { 0 }, before = { 0 };

        for (uint64_t pause = LOOK_MIN_USEC;; pause = pause_next(pause, LOOK_MAX_USEC)) {
                int r;

                is_read_only = is_read_only || superblock_make_read_only(d->root_fd) >= 0;
                r = holders_find(&old, &h);
                if (r < 0 || h.n == 0)
                        return r;
                if (h.n != before.n || strcmp(h.who, before.who) != 0 || is_read_only != was_read_only) {
                        report(d, &h, is_read_only, func, userdata);
                        pause = LOOK_MIN_USEC;
                }
                before = h;
                was_read_only = is_read_only;
                if (context_is_canceled(context))
                        return -ECANCELED;
                pause_for(context, pause);
        }
}

/* 1: it is gone, or not ours to remove; 0: the superblock uses it still, or a survey looks at it. */
static int try_remove_work(const Overlay *old) {
        _cleanup_(workdir_done) Workdir w = WORKDIR_INIT;
        int r = workdir_open_current(old, &w);

        if (r == 0 || errno_is_gone(r))
                return 1;
        if (r > 0)
                r = workdir_remove(&w);
        return r == -EWOULDBLOCK ? 0 : r;
}

/* The last reference to a superblock is dropped by a task on its way out of the kernel, and some references
 * no /proc shows: the kernel says when it is over. */
static int wait_for_work(Context *context, Drain *d, drain_func func, void *userdata) {
        const Holders unknown = { .n = 1, .who = "something that /proc does not show" };
        Overlay old = { .mount_point = context->overlay->mount_point, .work = d->work };

        for (uint64_t pause = LOOK_MIN_USEC;;
             pause = pause * 4 < LOOK_MAX_USEC ? pause * 4 : LOOK_MAX_USEC) {
                int r = try_remove_work(&old);

                if (r != 0)
                        return r < 0 ? r : 0;
                if (pause >= USEC_PER_SEC)
                        report(d, &unknown, true, func, userdata);
                if (context_is_canceled(context))
                        return -ECANCELED;
                pause_for(context, pause);
        }
}

int drain_wait(Context *context, Drain *d, drain_func func, void *userdata) {
        const Holders none = { 0 };
        int r = 0;

        context->root_fd = fd_close(context->root_fd);
        context->upper_fd = fd_close(context->upper_fd);
        if (d->is_covered)
                (void) superblock_make_read_only(d->root_fd);
        else if (d->root_fd >= 0)
                r = wait_for_holders(context, d, func, userdata);
        if (r < 0)
                return r;
        d->root_fd = fd_close(d->root_fd);
        if (!d->is_covered)
                r = wait_for_work(context, d, func, userdata);
        if (r < 0)
                return r;
        drain_forget(context, d);
        report(d, &none, true, func, userdata);
        return 0;
}
