/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* remount: starts the swap of one overlay, given by name or by a path on it, and waits for that job as other
 * verbs do (job-run.h). Whether it can be swapped the daemon says. */
#include "ctl/job-run.h"
#include "ctl/target.h"
#include "ctl/verbs.h"

int verb_remount(Ctl *c, int argc, char **argv) {
        _cleanup_(job_wait_freep) JobWait *w = NULL;
        _cleanup_free_ char *overlay = NULL;
        int r = overlay_resolve(c, "remount", argv[0], &overlay, /* ret_below= */ NULL);

        if (r != 0)
                return r;
        r = job_wait_new(c, &w);
        if (r < 0)
                return client_report(&c->client, r, "remount '%s'", argv[0]);
        r = job_start(c, w, overlay, argv[0]);
        return r != 0 ? r : job_run(c, w);
}
