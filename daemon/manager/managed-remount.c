/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Remounts of an overlay: who may ask for one, and the one that its configuration asks for. */
#include <string.h>

#include "manager/manager.h"
#include "service/log.h"

/* After an attempt to set Options= that failed: who unmounted what stood in the way should not wait for
 * long, and the journal should not be filled. */
#define OPTIONS_RETRY_USEC (600 * USEC_PER_SEC)

bool managed_is_remountable(const Managed *o) {
        return managed_is_open(o) ||
                (o->state == MANAGED_REFUSED && o->overlay && !o->survey && !o->is_paused);
}

/* Also one that is refused: a swap may give it the options it lacks. */
int managed_check_remountable(const Managed *o, Failure *reterr) {
        if (o->state == MANAGED_REFUSED && o->overlay)
                return 0;
        return managed_check_usable(o, o->config->mount_point, reterr);
}

static bool managed_lacks_options(const Managed *o) {
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        const char *wanted = o->config->settings.remount_options;
        int r;

        if (!wanted || !o->overlay)
                return false;
        r = overlay_has_options(o->overlay, wanted, &failure);
        if (r < 0)
                log_warning(
                        "Overlay '%s': Options=%s in [Remount] cannot be used, ignoring: %s",
                        o->config->name, wanted, failure.message ?: strerror(-r));
        return r == 0;
}

void managed_want_options(Managed *o) {
        const JobOptions options = { .remount = REMOUNT_SWAP, .set = o->config->settings.remount_options };
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        uint64_t now = manager_now(o->manager, CLOCK_MONOTONIC);
        Job *j;

        if ((o->options_tried_usec > 0 && now < o->options_tried_usec + OPTIONS_RETRY_USEC) ||
            queue_has_remount(o->manager->queue, o->config->name) || !managed_lacks_options(o))
                return;
        o->options_tried_usec = now;
        if (manager_add_remount(o->manager, o->config->name, &options, &j, &failure) < 0)
                log_warning(
                        "Overlay '%s' lacks options of [Remount] and cannot be swapped: %s", o->config->name,
                        failure.message ?: "no reason given");
        else
                log_info(
                        "Overlay '%s' is to be swapped, as it lacks one of Options=%s: job %u",
                        o->config->name, options.set, j->id);
}
