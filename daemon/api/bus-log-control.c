/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* org.freedesktop.LogControl1(5): level and target of the log, and nothing else. Property setters of a
 * vtable cannot wait for an answer from the bus about who is asking, so Set() is taken out of the stream
 * before sd-bus looks at the vtable. */
#include <string.h>

#include "api/bus-auth.h"
#include "api/bus-internal.h"
#include "dbus/names.h"
#include "service/log.h"

#define PROPERTIES_INTERFACE "org.freedesktop.DBus.Properties"

static int get_property(
        sd_bus *bus,
        const char *path,
        const char *interface,
        const char *property,
        sd_bus_message *reply,
        void *userdata,
        sd_bus_error *error) {
        const char *value = "ovlfind";

        if (strcmp(property, "LogLevel") == 0)
                value = log_level_to_string(log_get_max_level());
        else if (strcmp(property, "LogTarget") == 0)
                value = log_target_to_string(log_get_target());
        return sd_bus_message_append(reply, "s", value);
}

static int set_level(const char *value, sd_bus_error *error) {
        int level = log_level_from_string(value);

        if (level < 0)
                return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS, "'%s' is no log level", value);
        log_set_max_level(level);
        log_info("The log level is '%s' now", value);
        return 0;
}

static int set_target(const char *value, sd_bus_error *error) {
        LogTarget t = log_target_from_string(value);

        if (t < 0)
                return sd_bus_error_setf(
                        error, SD_BUS_ERROR_INVALID_ARGS,
                        "'%s' is no log target; use auto, journal or console", value);
        log_set_target(t);
        return 0;
}

static int set_authorized(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        const char *interface, *property, *value;
        int r;

        r = sd_bus_message_rewind(message, true);
        if (r < 0)
                return r;
        r = sd_bus_message_read(message, "ssv", &interface, &property, "s", &value);
        if (r < 0)
                return sd_bus_error_setf(
                        error, SD_BUS_ERROR_INVALID_ARGS, "A property of type s is expected");
        if (strcmp(interface, LOG_CONTROL_INTERFACE) != 0)
                return sd_bus_error_setf(
                        error, SD_BUS_ERROR_UNKNOWN_INTERFACE, "Unknown interface '%s'", interface);
        if (strcmp(property, "LogLevel") == 0)
                r = set_level(value, error);
        else if (strcmp(property, "LogTarget") == 0)
                r = set_target(value, error);
        else
                r = sd_bus_error_setf(
                        error, SD_BUS_ERROR_PROPERTY_READ_ONLY, "'%s' cannot be set", property);
        if (r < 0)
                return r;
        return sd_bus_reply_method_return(message, NULL);
}

static int on_message(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        if (!sd_bus_message_is_method_call(message, PROPERTIES_INTERFACE, "Set"))
                return 0;
        return bus_auth_call(message, BUS_ACTION_MANAGE, set_authorized, userdata);
}

/* Never called, but what makes the properties writable for whoever introspects them. */
static int set_property(
        sd_bus *bus,
        const char *path,
        const char *interface,
        const char *property,
        sd_bus_message *value,
        void *userdata,
        sd_bus_error *error) {
        return -EACCES;
}

static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_WRITABLE_PROPERTY("LogLevel", "s", get_property, set_property, 0, 0),
        SD_BUS_WRITABLE_PROPERTY("LogTarget", "s", get_property, set_property, 0, 0),
        SD_BUS_PROPERTY("SyslogIdentifier", "s", get_property, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_VTABLE_END,
};

int bus_log_control_attach(Manager *m) {
        int r;

        r = sd_bus_add_object(m->bus, NULL, LOG_CONTROL_OBJECT_PATH, on_message, m);
        if (r < 0)
                return r;
        return sd_bus_add_object_vtable(
                m->bus, NULL, LOG_CONTROL_OBJECT_PATH, LOG_CONTROL_INTERFACE, vtable, m);
}
