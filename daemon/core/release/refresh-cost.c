/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/release/refresh-cost.h"

#include "base/fs-util.h"
#include "core/lower/content.h"

/* To ask the lower about a small file would cost more than it tells. One that does not tell counts as a
 * whole. */
static uint64_t measure(const Lower *l, const Difference *x) {
        _cleanup_close_ int fd = -EBADF;
        uint64_t bytes;

        if ((uint64_t) x->st.st_size <= CONTENT_KERNEL_STEP)
                return (uint64_t) x->st.st_size;
        fd = lower_open_file(l, x->lower, 0);
        return fd >= 0 && content_measure(fd, 1, &bytes) >= 0 ? bytes : (uint64_t) x->st.st_size;
}

uint64_t refresh_measure(const DifferenceScope *s, const Difference *x) {
        return x->kind == DIFFERENCE_CHANGED && S_ISREG(x->st.st_mode) && !difference_has_same_content(s, x)
                ? measure(s->lower, x)
                : 0;
}

void refresh_cost_add(RefreshCost *c, uint64_t bytes) {
        c->bytes += bytes;
        c->largest = bytes > c->largest ? bytes : c->largest;
}

bool refresh_cost_is_too_much(const RefreshCost *c, const Context *context, const char *path) {
        _cleanup_failure_ Failure f = FAILURE_INIT;

        return c->bytes > 0 &&
                (c->largest > context->options.refresh_max_bytes ||
                 guard_room(context, path, c->bytes, &f) < 0);
}
