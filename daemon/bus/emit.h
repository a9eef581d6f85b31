/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tells the bus what happened without having been asked: objects that come and go, jobs that end, states
 * that change. It knows no object but its path, and waits for nobody. All of these only queue messages, and
 * do nothing as long as bus is NULL. A signal that cannot be sent is logged, and changes nothing else. */
#pragma once

#include <systemd/sd-bus.h>

#include "base/states.h"

void bus_announce_overlay(sd_bus *bus, const char *name, bool is_there);
void bus_announce_job(sd_bus *bus, uint32_t id);
void bus_forget_job(sd_bus *bus, uint32_t id);
void bus_send_job_removed(sd_bus *bus, uint32_t id, JobState state);
/* path: relative to the mount point */
void bus_send_directory_changed(
        sd_bus *bus, const char *overlay, const char *mount_point, const char *path, DirectoryState state);
void bus_send_remounted(sd_bus *bus, const char *overlay, const char *method, uint64_t usec);
void bus_send_properties_changed(sd_bus *bus, const char *object);

/* Object paths, owned by the caller; NULL on out of memory. */
char *bus_overlay_path(const char *name);
char *bus_job_path(uint32_t id);
