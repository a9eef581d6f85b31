/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "api/bus.h"

#include <string.h>

#include "api/bus-auth.h"
#include "api/bus-internal.h"
#include "base/path-util.h"
#include "base/utf8.h"
#include "dbus/names.h"
#include "service/log.h"

char *bus_overlay_path(const char *name) {
        char *path;

        return sd_bus_path_encode(OVLFIND_OVERLAY_PATH_PREFIX, name, &path) < 0 ? NULL : path;
}

char *bus_job_path(uint32_t id) {
        char *path;

        return asprintf(&path, OVLFIND_JOB_PATH_PREFIX "/%u", (unsigned) id) < 0 ? NULL : path;
}

static void warn_unsent(int r, const char *what) {
        if (r < 0)
                (void) log_warning_errno(r, "Cannot send %s, ignoring: %m", what);
}

void bus_announce_overlay(Manager *m, const Managed *o, bool is_there) {
        _cleanup_free_ char *path = NULL;

        if (!m->bus)
                return;
        path = bus_overlay_path(o->config->name);
        if (!path)
                (void) log_oom();
        else if (is_there)
                warn_unsent(sd_bus_emit_object_added(m->bus, path), "InterfacesAdded");
        else
                warn_unsent(sd_bus_emit_object_removed(m->bus, path), "InterfacesRemoved");
}

void bus_announce_job(Manager *m, const Job *j) {
        _cleanup_free_ char *path = NULL;

        if (!m->bus)
                return;
        path = bus_job_path(j->id);
        if (!path) {
                (void) log_oom();
                return;
        }
        warn_unsent(sd_bus_emit_object_added(m->bus, path), "InterfacesAdded");
        warn_unsent(
                sd_bus_emit_signal(
                        m->bus, OVLFIND_OBJECT_PATH, OVLFIND_MANAGER_INTERFACE, "JobNew", "uo", j->id, path),
                "JobNew");
}

void bus_forget_job(Manager *m, const Job *j) {
        _cleanup_free_ char *path = NULL;

        if (!m->bus)
                return;
        path = bus_job_path(j->id);
        if (path)
                warn_unsent(sd_bus_emit_object_removed(m->bus, path), "InterfacesRemoved");
}

void bus_send_job_removed(Manager *m, const Job *j) {
        _cleanup_free_ char *path = NULL;

        if (!m->bus)
                return;
        path = bus_job_path(j->id);
        if (path)
                warn_unsent(
                        sd_bus_emit_signal(
                                m->bus, OVLFIND_OBJECT_PATH, OVLFIND_MANAGER_INTERFACE, "JobRemoved", "uos",
                                j->id, path, job_state_to_string(j->state)),
                        "JobRemoved");
}

void bus_send_directory_changed(Manager *m, const Managed *o, const char *path, DirectoryState state) {
        _cleanup_free_ char *absolute = NULL, *escaped = NULL;

        if (!m->bus)
                return;
        absolute = path_join(o->config->mount_point, path);
        escaped = absolute ? utf8_escape(absolute) : NULL;
        if (!escaped) {
                (void) log_oom();
                return;
        }
        warn_unsent(
                sd_bus_emit_signal(
                        m->bus, OVLFIND_OBJECT_PATH, OVLFIND_MANAGER_INTERFACE, "DirectoryChanged", "sss",
                        o->config->name, escaped, directory_state_to_string(state)),
                "DirectoryChanged");
}

void bus_send_remounted(Manager *m, const Managed *o, const char *method, uint64_t usec) {
        if (m->bus)
                warn_unsent(
                        sd_bus_emit_signal(
                                m->bus, OVLFIND_OBJECT_PATH, OVLFIND_MANAGER_INTERFACE, "Remounted", "sst",
                                o->config->name, method, usec),
                        "Remounted");
}

/* All that may change, as the interface's own table marks it. */
void bus_send_properties_changed(Manager *m, const char *object) {
        const char *interface = path_startswith(object, OVLFIND_JOB_PATH_PREFIX) ? OVLFIND_JOB_INTERFACE
                : path_startswith(object, OVLFIND_OVERLAY_PATH_PREFIX)           ? OVLFIND_OVERLAY_INTERFACE
                                                                                 : OVLFIND_MANAGER_INTERFACE;
        int r;

        if (!m->bus)
                return;
        r = sd_bus_emit_properties_changed_strv(m->bus, object, interface, /* names= */ NULL);
        if (r != -ENOENT) /* the object is gone by now */
                warn_unsent(r, "PropertiesChanged");
}

const char *bus_error_name(FailureKind kind) {
        static const char *const names[_FAILURE_MAX] = {
                [FAILURE_FAILED] = SD_BUS_ERROR_FAILED,
                [FAILURE_NOT_MANAGED] = OVLFIND_ERROR_PREFIX "NotManaged",
                [FAILURE_NO_SUCH_OVERLAY] = OVLFIND_ERROR_PREFIX "NoSuchOverlay",
                [FAILURE_NO_SUCH_JOB] = OVLFIND_ERROR_PREFIX "NoSuchJob",
                [FAILURE_PRECONDITION] = OVLFIND_ERROR_PREFIX "Precondition",
                [FAILURE_BUSY] = OVLFIND_ERROR_PREFIX "Busy",
                [FAILURE_NO_SPACE] = OVLFIND_ERROR_PREFIX "NoSpace",
                [FAILURE_LOWER_UNREACHABLE] = OVLFIND_ERROR_PREFIX "LowerUnreachable",
                [FAILURE_LOWER_UNPROVED] = OVLFIND_ERROR_PREFIX "LowerUnproved",
                [FAILURE_CANCELED] = OVLFIND_ERROR_PREFIX "Canceled",
                [FAILURE_INVALID] = OVLFIND_ERROR_PREFIX "Invalid",
        };

        if (kind == FAILURE_NONE)
                return "";
        return kind > 0 && kind < _FAILURE_MAX ? names[kind] : SD_BUS_ERROR_FAILED;
}

int bus_error_from_failure(sd_bus_error *error, const Failure *f) {
        _cleanup_free_ char *message = utf8_escape(f->message ?: "no reason given");

        (void) sd_bus_error_set(error, bus_error_name(f->kind), message);
        return -EIO; /* the name in `error` counts */
}

int bus_append_text(sd_bus_message *m, const char *text) {
        _cleanup_free_ char *escaped = utf8_escape(text ?: "");

        return escaped ? sd_bus_message_append(m, "s", escaped) : -ENOMEM;
}

int bus_append_string(sd_bus_message *m, const char *key, const char *value) {
        _cleanup_free_ char *escaped = utf8_escape(value);

        return escaped ? sd_bus_message_append(m, "{sv}", key, "s", escaped) : -ENOMEM;
}

int bus_append_u64(sd_bus_message *m, const char *key, uint64_t value) {
        return sd_bus_message_append(m, "{sv}", key, "t", value);
}

int bus_read_text(sd_bus_message *message, char **ret) {
        const char *text;
        int r;

        r = sd_bus_message_read(message, "s", &text);
        if (r < 0)
                return r;
        *ret = utf8_unescape(text);
        return *ret ? 0 : -ENOMEM;
}

int bus_read_flag(sd_bus_message *message, bool *ret) {
        int b, r;

        r = sd_bus_message_read(message, "v", "b", &b);
        if (r >= 0)
                *ret = b;
        return r;
}

static int read_entry(sd_bus_message *message, bus_read_option_t read, void *userdata, Failure *reterr) {
        const char *key;
        int r;

        r = sd_bus_message_read(message, "s", &key);
        if (r < 0)
                return r;
        r = read(message, key, userdata, reterr);
        if (r == -ENXIO)
                return failure_set(reterr, FAILURE_INVALID, EINVAL, "option '%s' has the wrong type", key);
        return r < 0 ? r : sd_bus_message_exit_container(message);
}

int bus_read_options(sd_bus_message *message, bus_read_option_t read, void *userdata, Failure *reterr) {
        int r;

        r = sd_bus_message_enter_container(message, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(message, 'e', "sv")) > 0)
                r = read_entry(message, read, userdata, reterr);
        return r < 0 ? r : sd_bus_message_exit_container(message);
}

static int on_name(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        const sd_bus_error *e = sd_bus_message_get_error(reply);
        Manager *m = userdata;
        uint32_t result = 0;

        if (e) {
                log_error("The bus refuses the name %s: %s", OVLFIND_BUS_NAME, e->message);
                return sd_event_exit(m->event, -EACCES);
        }
        if (sd_bus_message_read(reply, "u", &result) < 0 || (result != 1 && result != 4)) {
                log_error("The name %s is taken, is ovlfind running already?", OVLFIND_BUS_NAME);
                return sd_event_exit(m->event, -EEXIST);
        }
        manager_is_named(m);
        return 0;
}

/* Whoever mounts something and then asks for it is answered with it. */
static int on_message(sd_bus_message *message, void *userdata, sd_bus_error *unused) {
        Manager *m = userdata;

        if (sd_bus_message_is_method_call(message, NULL, NULL) > 0)
                mount_monitor_catch_up(m->monitor);
        return 0;
}

static int on_disconnected(sd_bus_message *message, void *userdata, sd_bus_error *unused) {
        Manager *m = userdata;

        log_error("The connection to the bus is lost");
        return sd_event_exit(m->event, -ECONNRESET);
}

static int bus_add_objects(Manager *m) {
        int r;

        r = sd_bus_add_object_manager(m->bus, NULL, OVLFIND_OBJECT_PATH);
        if (r < 0)
                return r;
        if ((r = bus_manager_attach(m)) < 0 || (r = bus_overlay_attach(m)) < 0 ||
            (r = bus_job_attach(m)) < 0)
                return r;
        return bus_log_control_attach(m);
}

int bus_open(Manager *m) {
        int r;

        m->auth = bus_auth_new();
        if (!m->auth)
                return log_oom();
        r = sd_bus_open_system_with_description(&m->bus, "ovlfind");
        if (r < 0)
                return log_error_errno(r, "Cannot connect to the system bus: %m");
        r = sd_bus_attach_event(m->bus, m->event, SD_EVENT_PRIORITY_NORMAL);
        if (r < 0)
                return log_error_errno(r, "Cannot watch the bus: %m");
        r = sd_bus_add_filter(m->bus, NULL, on_message, m);
        if (r >= 0)
                r = bus_add_objects(m);
        if (r < 0)
                return log_error_errno(r, "Cannot add the objects on the bus: %m");
        r = sd_bus_match_signal_async(
                m->bus, NULL, "org.freedesktop.DBus.Local", "/org/freedesktop/DBus/Local",
                "org.freedesktop.DBus.Local", "Disconnected", on_disconnected, NULL, m);
        if (r < 0)
                return log_error_errno(r, "Cannot watch the connection to the bus: %m");
        r = sd_bus_request_name_async(m->bus, NULL, OVLFIND_BUS_NAME, 0, on_name, m);
        return r < 0 ? log_error_errno(r, "Cannot ask for the name %s: %m", OVLFIND_BUS_NAME) : 0;
}

/* What is queued goes out, e.g. how jobs ended; the bus has taken all of it or is stuck itself. */
void bus_close(Manager *m) {
        if (m->bus) {
                (void) sd_bus_detach_event(m->bus);
                m->auth = bus_auth_free(m->auth);
                m->bus = sd_bus_flush_close_unref(m->bus);
        }
}
