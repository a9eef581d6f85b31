/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the bus is told without having asked. */
#include "bus/emit.h"

#include <stdarg.h>

#include "base/path-util.h"
#include "base/str.h"
#include "base/utf8.h"
#include "dbus/names.h"
#include "service/log.h"

char *bus_overlay_path(const char *name) {
        char *path;

        return sd_bus_path_encode(OVLFIND_OVERLAY_PATH_PREFIX, name, &path) < 0 ? NULL : path;
}

char *bus_job_path(uint32_t id) {
        return str_format(OVLFIND_JOB_PATH_PREFIX "/%u", (unsigned) id);
}

static void warn_unsent(int r, const char *what) {
        if (r < 0)
                (void) log_warning_errno(r, "Cannot send %s, ignoring: %m", what);
}

static void announce(sd_bus *bus, const char *path, bool is_there) {
        if (!path)
                (void) log_oom();
        else if (is_there)
                warn_unsent(sd_bus_emit_object_added(bus, path), "InterfacesAdded");
        else
                warn_unsent(sd_bus_emit_object_removed(bus, path), "InterfacesRemoved");
}

/* A signal of the manager. */
static void send_signal(sd_bus *bus, const char *member, const char *types, ...) {
        va_list ap;
        int r;

        va_start(ap, types);
        r = sd_bus_emit_signalv(bus, OVLFIND_OBJECT_PATH, OVLFIND_MANAGER_INTERFACE, member, types, ap);
        va_end(ap);
        warn_unsent(r, member);
}

void bus_announce_overlay(sd_bus *bus, const char *name, bool is_there) {
        _cleanup_free_ char *path = bus_overlay_path(name);

        if (bus)
                announce(bus, path, is_there);
}

void bus_announce_job(sd_bus *bus, uint32_t id) {
        _cleanup_free_ char *path = bus_job_path(id);

        if (!bus)
                return;
        announce(bus, path, /* is_there= */ true);
        if (path)
                send_signal(bus, "JobNew", "uo", id, path);
}

void bus_forget_job(sd_bus *bus, uint32_t id) {
        _cleanup_free_ char *path = bus_job_path(id);

        if (bus)
                announce(bus, path, /* is_there= */ false);
}

void bus_send_job_removed(sd_bus *bus, uint32_t id, JobState state) {
        _cleanup_free_ char *path = bus_job_path(id);

        if (bus && path)
                send_signal(bus, "JobRemoved", "uos", id, path, job_state_to_string(state));
}

void bus_send_directory_changed(
        sd_bus *bus, const char *overlay, const char *mount_point, const char *path, DirectoryState state) {
        _cleanup_free_ char *absolute = NULL, *escaped = NULL;

        if (!bus)
                return;
        absolute = path_join(mount_point, path);
        escaped = absolute ? utf8_escape(absolute) : NULL;
        if (escaped)
                send_signal(
                        bus, "DirectoryChanged", "sss", overlay, escaped, directory_state_to_string(state));
        else
                (void) log_oom();
}

void bus_send_remounted(sd_bus *bus, const char *overlay, const char *method, uint64_t usec) {
        if (bus)
                send_signal(bus, "Remounted", "sst", overlay, method, usec);
}

/* All that may change, as the interface's own table marks it. */
void bus_send_properties_changed(sd_bus *bus, const char *object) {
        const char *interface = path_startswith(object, OVLFIND_JOB_PATH_PREFIX) ? OVLFIND_JOB_INTERFACE
                : path_startswith(object, OVLFIND_OVERLAY_PATH_PREFIX)           ? OVLFIND_OVERLAY_INTERFACE
                                                                                 : OVLFIND_MANAGER_INTERFACE;
        int r;

        if (!bus)
                return;
        r = sd_bus_emit_properties_changed_strv(bus, object, interface, /* names= */ NULL);
        if (r != -ENOENT) /* the object is gone by now */
                warn_unsent(r, "PropertiesChanged");
}
