/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Old trees that a job leaves, looked at until they are gone. What is done with one is exchange/retire.c's;
 * here are only the list of them and the growing pauses. A worker that has one lives on after its result
 * and holds up no job. */
#include <poll.h>

#include "base/clock.h"
#include "core/job/work-internal.h"

#define KEEP_LOOK_MIN_MSEC 200
#define KEEP_LOOK_MAX_MSEC 5000

void keepers_done(Keepers *k) {
        for (size_t i = 0; i < k->n; i++)
                exchange_free(k->items[i]);
        free(k->items);
        *k = (Keepers){ 0 };
}

static int keepers_add(Keepers *k, Exchange *x) {
        if (!ARRAY_GROW(k->items, k->n))
                return -ENOMEM;
        k->items[k->n++] = x;
        return 0;
}

int keepers_retire(Keepers *k, Exchange *x) {
        _cleanup_(exchange_freep) Exchange *own = x;
        int r = x ? exchange_retire(x) : 1;

        if (r == RESULT_HUNG) { /* threads hang with it */
                TAKE_PTR(own);
                return r;
        }
        if (r == 1)
                return 0;
        r = keepers_add(k, x);
        if (r >= 0)
                TAKE_PTR(own);
        return r;
}

static void drop_keeper(Keepers *k, size_t i) {
        exchange_free(k->items[i]);
        k->items[i] = k->items[--k->n];
}

void keepers_wait(const Keepers *k, int timeout_msec) {
        _cleanup_free_ struct pollfd *p = calloc(k->n, sizeof(struct pollfd));

        for (size_t i = 0; p && i < k->n; i++)
                p[i] = (struct pollfd){ .fd = exchange_watch_fd(k->items[i]), .events = POLLIN };
        (void) poll(p, p ? k->n : 0, timeout_msec);
}

int keepers_look(Context *context, Keepers *k) {
        for (size_t i = k->n; i-- > 0;) {
                int r = exchange_retire(k->items[i]);

                if (r == RESULT_HUNG)
                        return r;
                if (r == 1) {
                        context_kept(context, exchange_path(k->items[i]), exchange_id(k->items[i]), 0, "");
                        drop_keeper(k, i);
                }
        }
        return 0;
}

int work_keep_for(Context *context, Keepers *k, uint64_t usec) {
        uint64_t start = now_monotonic_usec();

        for (int pause = KEEP_LOOK_MIN_MSEC; k->n > 0 && now_monotonic_usec() - start < usec;) {
                int r = keepers_look(context, k);

                if (r < 0)
                        return r;
                if (context_is_canceled(context))
                        return -ECANCELED;
                if (k->n > 0)
                        keepers_wait(k, pause);
                pause = (int) pause_next((uint64_t) pause, KEEP_LOOK_MAX_MSEC);
        }
        return 0;
}

int work_keep(Context *context, Keepers *k) {
        return work_keep_for(context, k, USEC_INFINITY);
}
