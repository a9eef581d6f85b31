/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* unfinalize --reset, of an overlay that is mounted for this job alone. Which copies may go core/job/reset.c
 * decides. While anybody else has the overlay in use it is not safe: the kernel finds inodes by their lower
 * file (docs/overlayfs.md 4.2), so what shows once the copy is gone would share the inode of the copy that
 * somebody has open. */
#include "core/job/reset.h"
#include "core/lower/lower.h"
#include "worker/worker.h"

/* What changed in the lower since is taken up first, as long as the record tells it from what was changed
 * here. */
int worker_prepare_reset(Worker *w, const char *path, const WorkHooks *hooks, Failure *reterr) {
        if (!worker_asks_for(w, WIRE_OFFLINE))
                return failure_set(
                        reterr, FAILURE_PRECONDITION, EBUSY,
                        "copies are dropped only of an overlay that is not mounted");
        return worker_refresh(w, path, hooks, reterr);
}

int worker_reset(Worker *w, const char *path, Failure *reterr) {
        _cleanup_(lower_done) Lower lower = LOWER_INIT;
        uint64_t n = 0;
        int r = work_keep(&w->context, &w->kept);

        if (r < 0)
                return failure_set_errno(reterr, r, "cannot remove the old tree of '%s'", path);
        r = lower_open(
                &w->context, &lower, reterr); /* as long as it is mounted, and tells what its layers are */
        if (r < 0)
                return r;
        (void) lower_prove_data(&lower); /* as above; who reads content asks for the result */
        w->context.root_fd = fd_close(w->context.root_fd);
        r = offline_unmount(&w->offline, w->overlay, reterr);
        if (r >= 0)
                r = reset_run(&w->context, &lower, path, &n, reterr);
        if (n > 0)
                context_note(
                        &w->context, path,
                        "%llu entr%s nothing but a copy of the lower layer's, and dropped",
                        (unsigned long long) n, n == 1 ? "y was" : "ies were");
        return r;
}
