/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The one way in which what a worker tells of a directory comes into the directory table, and to those who
 * are told of changes. No directory is looked at here. What the first survey tells is no change. */
#include "overlays/managed.h"
#include "service/log.h"

int managed_learn(Managed *o, const WireRecord *r) {
        DirectoryInfo info = directory_info_from_record(r);
        int changed;

        if (r->state >= _DIRECTORY_STATE_MAX) {
                log_warning(
                        "A worker for overlay '%s' reported an unknown state, ignoring", o->config->name);
                return 0;
        }
        changed = directory_table_update(o->directories, &info);
        if (changed < 0)
                return log_oom();
        o->events->changed(o);
        /* The first survey only tells what has been so before. */
        if (changed > 0 && o->state == MANAGED_ACTIVE)
                o->events->directory_changed(o, info.path, info.state);
        return changed > 0 && info.state == DIRECTORY_FINALIZED;
}
