/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An overlay that is not mounted, as the value that its layers make. Nothing is mounted here, and no lower
 * layer is opened. An upper that a mounted overlay has, in any mount namespace, is refused. */
#pragma once

#include "core/mount/overlay.h"

/* lower: as for mount -o lowerdir=; work may be NULL. In messages the upper stands for the mount point.
 * FAILURE_BUSY when an overlay that is mounted anywhere has this upper. Blocks: opens the upper, scans
 * /proc. */
int overlay_load_unmounted(
        const char *lower, const char *upper, const char *work, Overlay **ret, Failure *reterr);
