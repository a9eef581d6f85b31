/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An overlay that is not mounted, mounted for one job where nobody else sees it: in a mount namespace of
 * this process, with a work directory of its own. The same engine then works on it as on any other, and the
 * kernel writes what has to be written; nothing edits the upper by hand. What a killed job leaves is a
 * directory beside the upper that the next one takes over, and staging, as ever. */
#pragma once

#include "core/mount/overlay.h"

typedef struct Offline {
        char *holder; /* directory beside the upper, for the work directory and the mount point */
        char *mount_point;
        char *work;
        int lock_fd; /* the holder; locked */
        bool is_mounted;
} Offline;

#define OFFLINE_INIT                                                                                        \
        (Offline) {                                                                                         \
                .lock_fd = -EBADF                                                                           \
        }

/* Mounts it. lower: as in lowerdir=, upper: absolute. FAILURE_BUSY: a mounted overlay uses the upper, or
 * another job like this one; FAILURE_LOWER_UNREACHABLE: a lower layer is not there; FAILURE_PRECONDITION:
 * the upper belongs to an overlay that cannot be mounted so (index=on). Moves the calling thread, and those
 * it starts, to another mount namespace for good. Blocks on the layers. */
int offline_mount(const char *upper, const char *lower, Offline *ret, Failure *reterr);
/* Unmounts it, for raw edits of the upper: FAILURE_BUSY as above. All descriptors on it must be closed. o
 * stays locked, and layers are those it was mounted with. */
int offline_unmount(Offline *o, const Overlay *layers, Failure *reterr);
/* Unmounts it and removes what was made beside the upper. All descriptors on it must be closed. */
void offline_done(Offline *o);
/* The name under which records of this upper are kept in state_dir: that of the overlay which has some of it
 * already, otherwise one made of the path of the upper. Owned by the caller. */
int offline_records_name(const char *state_dir, const char *upper, char **ret);
