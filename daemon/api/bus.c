/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "api/bus.h"

#include "api/bus-internal.h"
#include "dbus/names.h"
#include "service/log.h"

static int on_name(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        const sd_bus_error *e = sd_bus_message_get_error(reply);
        Manager *m = userdata;
        uint32_t result = 0;

        if (e) {
                log_error("The bus refuses the name %s: %s", OVLFIND_BUS_NAME, e->message);
                return sd_event_exit(m->host.event, -EACCES);
        }
        if (sd_bus_message_read(reply, "u", &result) < 0 || (result != 1 && result != 4)) {
                log_error("The name %s is taken, is ovlfind running already?", OVLFIND_BUS_NAME);
                return sd_event_exit(m->host.event, -EEXIST);
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
        return sd_event_exit(m->host.event, -ECONNRESET);
}

static int bus_add_objects(Manager *m) {
        int r = sd_bus_add_object_manager(m->bus, NULL, OVLFIND_OBJECT_PATH);

        if (r < 0)
                return r;
        if ((r = bus_manager_attach(m)) < 0 || (r = bus_overlay_attach(m)) < 0 ||
            (r = bus_job_attach(m)) < 0)
                return r;
        return bus_log_control_attach(m);
}

int bus_open(Manager *m) {
        int r;

        m->auth = bus_auth_new(bus_members);
        if (!m->auth)
                return log_oom();
        r = sd_bus_open_system_with_description(&m->bus, "ovlfind");
        if (r < 0)
                return log_error_errno(r, "Cannot connect to the system bus: %m");
        r = sd_bus_attach_event(m->bus, m->host.event, SD_EVENT_PRIORITY_NORMAL);
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
                manager_send_replies(m);
                (void) sd_bus_detach_event(m->bus);
                m->auth = bus_auth_free(m->auth);
                m->bus = sd_bus_flush_close_unref(m->bus);
        }
}
