/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tells when the mount table of this namespace has changed, with the table. Many changes at once are told
 * once, 50 ms after the first; who cannot wait for that lets it catch up. It does not know which mounts
 * matter, and opens none of them. */
#pragma once

#include <systemd/sd-event.h>

#include "base/macro.h"
#include "core/mount/mount-table.h"

typedef struct MountMonitor MountMonitor;
typedef void (*mount_monitor_func)(const MountTable *table, void *userdata);

int mount_monitor_new(sd_event *event, mount_monitor_func func, void *userdata, MountMonitor **ret);
MountMonitor *mount_monitor_free(MountMonitor *m);
DEFINE_CLEANUP(MountMonitor *, mount_monitor_free);
/* Tells of the table as of now, whether it has changed or not. Reads /proc only. */
void mount_monitor_tell(MountMonitor *m);
/* Tells now what it would tell soon, if anything. */
void mount_monitor_catch_up(MountMonitor *m);
/* Reads the table as of now. Reads /proc only. */
int mount_monitor_read(MountTable *ret);
