/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/check/unmounted.h"

#include <fcntl.h>
#include <string.h>

#include "core/check/check-internal.h"

static int refuse_mounted(const Overlay *o, Failure *reterr) {
        CheckContext c = { .o = o, .proc = "/proc", .upper_fd = -EBADF };
        int r;

        c.upper_fd = open(o->upper, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (c.upper_fd < 0)
                return failure_set_errno(reterr, -errno, "cannot open the upper layer '%s'", o->upper);
        r = check_scan_namespaces(&c);
        if (r >= 0 && c.second)
                r = failure_set(
                        reterr, FAILURE_BUSY, EBUSY,
                        "'%s' is the upper layer of the overlay at '%s' (as process %d sees it); unmount "
                        "it, or work on the mounted overlay",
                        o->upper, c.second, (int) c.second_pid);
        (void) fd_close(c.upper_fd);
        free(c.second);
        return r;
}

int overlay_load_unmounted(
        const char *lower, const char *upper, const char *work, Overlay **ret, Failure *reterr) {
        _cleanup_(overlay_freep) Overlay *o = calloc(1, sizeof(Overlay));
        int r;

        if (!o)
                return -ENOMEM;
        o->upper = strdup(upper);
        o->mount_point = strdup(upper);
        o->work = work ? strdup(work) : NULL;
        if (!o->upper || !o->mount_point || (work && !o->work))
                return -ENOMEM;
        r = overlay_split_lowerdir(lower, &o->lower, &o->data);
        if (r < 0)
                return failure_set(
                        reterr, FAILURE_INVALID, -r, "'%s' is no list of lower layers as mount takes it",
                        lower);
        while (o->lower[o->n_lower])
                o->n_lower++;
        while (o->data && o->data[o->n_data])
                o->n_data++;
        r = refuse_mounted(o, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 0;
}
