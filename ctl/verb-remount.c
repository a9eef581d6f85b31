/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* remount: one overlay, by name or by a path on it. */
#include "ctl/job-run.h"
#include "ctl/target.h"
#include "ctl/verbs.h"
#include "dbus/names.h"

int verb_remount(Ctl *c, int argc, char **argv) {
        _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
        _cleanup_(job_wait_freep) JobWait *w = NULL;
        _cleanup_free_ char *overlay = NULL;
        int r;

        r = overlay_resolve(c, "remount", argv[0], &overlay, /* ret_below= */ NULL);
        if (r != 0)
                return r;
        r = job_wait_new(c, "remount", &w, &e);
        if (r < 0)
                return (int) client_report(&c->client, &e, r, "remount '%s'", argv[0]);
        r = job_start(c, w, "remount", "Remount", overlay, argv[0]);
        return r != 0 ? r : job_run(c, "remount", w);
}
