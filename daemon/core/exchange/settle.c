/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Waits until the new tree is in line with the old one and nothing has changed for QuietSec=. Changes are
 * found by watch.c and done again by sync.c; here is only the waiting, and the saving. The record and the
 * snapshot, from which a crash is repaired, are on disk before the exchange can happen. */
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "core/exchange/exchange-internal.h"

/* A directory in which names change for so long without a pause is not one that programs search libraries
 * in. */
#define NEVER_QUIET_USEC (60 * USEC_PER_SEC)

typedef struct Youngest {
        Exchange *x;
        uint64_t mtime_usec;
} Youngest;
static int find_youngest(Node *n, void *userdata) {
        Youngest *y = userdata;
        _cleanup_close_ int fd = node_open(n, y->x->old.upper_fd);
        struct stat st;

        if (fd >= 0 && fstat(fd, &st) >= 0) {
                uint64_t t = (uint64_t) st.st_mtim.tv_sec * USEC_PER_SEC +
                        (uint64_t) st.st_mtim.tv_nsec / NSEC_PER_USEC;
                if (t > y->mtime_usec)
                        y->mtime_usec = t;
        }
        return 0;
}

/* When names changed last, before we watched: the youngest modification time says. One from the future says
 * nothing. */
void settle_begin(Exchange *x) {
        uint64_t now = now_realtime_usec(), monotonic = now_monotonic_usec();
        Youngest y = { .x = x };

        (void) tree_foreach(x->tree, find_youngest, &y);
        x->changed_usec =
                y.mtime_usec < now && now - y.mtime_usec < monotonic ? monotonic - (now - y.mtime_usec) : 0;
}

/* Writes what the exchange will be repaired from. Most times so that a killed process finds it: after a lost
 * machine the older state leads to the same end, since every step of reconciling is idempotent. sync: for
 * good, where it would not. */
int exchange_save(Exchange *x, bool sync) {
        int r = manifest_update(x->tree->root, x->staging.dir.fd, STAGING_SNAPSHOT, sync);

        if (r >= 0 && x->is_resumed)
                (void) unlinkat(x->staging.dir.fd, STAGING_SNAPSHOT_LAST, 0);
        if (r >= 0)
                x->is_manifest_stale = false;
        return r;
}

static int save_first(Exchange *x) {
        _cleanup_failure_ Failure f = FAILURE_INIT;
        int r = context_make_durable(x->context, &f);

        batch_note(&x->batch, &f);
        x->tree->usec = now_realtime_usec();
        if (r >= 0 && !x->tree->is_undo)
                r = manifest_write(x->tree, x->context->records_fd, x->tree->id);
        if (r >= 0)
                r = exchange_save(x, /* sync= */ true);
        x->has_manifest = r >= 0;
        return r;
}

int settle_once(Exchange *x) {
        int r = watch_drain(x);

        if (r < 0)
                return r;
        if (x->has_moved)
                return EXCHANGE_ANEW;
        r = sync_dirty(x);
        if (r >= 0)
                r = build_copy_attributes(x);
        if (r >= 0 || r == RESULT_BLOCKED)
                r = exchange_check_blocked(x);
        if (r < 0)
                return r;
        if (!x->has_manifest) {
                r = save_first(x);
                if (r < 0)
                        exchange_fail(x, r, x->tree->root, NULL, "write the record of");
        } else if (x->is_manifest_stale)
                r = exchange_save(x, /* sync= */ false);
        if (r < 0)
                return r;
        r = watch_drain(x);
        return r < 0 ? r : r == 0 && !tree_resume_deferred(x->tree);
}

static int wait_quiet(Exchange *x, uint64_t deadline, Failure *reterr) {
        uint64_t quiet = x->context->options.quiet_usec;

        for (;;) {
                uint64_t now = now_monotonic_usec();
                int r;

                if (context_is_canceled(x->context))
                        return exchange_outcome(x, reterr);
                if (now < deadline && now - x->changed_usec >= quiet)
                        return 0;
                if (now >= deadline)
                        return failure_set(
                                reterr, FAILURE_BUSY, EBUSY,
                                "'%s/%s' is never quiet: names in it changed within QuietSec= all the time; "
                                "try again later or lower QuietSec=",
                                x->context->overlay->mount_point, x->tree->path);
                batch_progress(&x->batch, JOB_WAITING);
                r = watch_wait(x, 1 + (int) ((quiet - (now - x->changed_usec)) / USEC_PER_MSEC));
                if (r < 0)
                        return r;
                if (r > 0)
                        return 0; /* take it up first */
        }
}

/* Until the new tree is in line, was so for QuietSec=, and nothing is queued. */
int settle(Exchange *x, Failure *reterr) {
        uint64_t deadline = now_monotonic_usec() + NEVER_QUIET_USEC + 2 * x->context->options.quiet_usec;
        int r;

        for (;;) {
                bool had_manifest = x->has_manifest;
                uint64_t begin = now_monotonic_usec();

                r = settle_once(x);
                if (r < 0)
                        return r;
                if (!had_manifest) /* a slow disk is nobody's restlessness */
                        deadline += now_monotonic_usec() - begin;
                if (r > 0 && now_monotonic_usec() - x->changed_usec >= x->context->options.quiet_usec)
                        return 0;
                r = wait_quiet(x, deadline, reterr);
                if (r < 0)
                        return r;
        }
}

/* Between the last look and the exchange, and until what came late is replayed, every delay is somebody's
 * wrong answer: this thread goes before those who wait for it. Returns the priority to go back to. */
int priority_raise(void) {
        int before = getpriority(PRIO_PROCESS, 0);

        (void) setpriority(PRIO_PROCESS, 0, -20);
        return before;
}

void priority_restore(int before) {
        (void) setpriority(PRIO_PROCESS, 0, before);
}
