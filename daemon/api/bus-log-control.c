/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* org.freedesktop.LogControl1(5): level and target of the log, and nothing else. They hold until the daemon
 * ends. They are set by handlers of the message Set() as a whole: a setter in a vtable could not wait until
 * the sender is authorized, see bus_auth_set(). */
#include <string.h>

#include "api/bus-internal.h"
#include "dbus/names.h"
#include "service/log.h"

static PROPERTY_GETTER(get_property) {
        const char *value = "ovlfind";

        if (strcmp(property, "LogLevel") == 0)
                value = log_level_to_string(log_get_max_level());
        else if (strcmp(property, "LogTarget") == 0)
                value = log_target_to_string(log_get_target());
        return sd_bus_message_append(reply, "s", value);
}

static int read_value(sd_bus_message *message, const char **ret, sd_bus_error *error) {
        const char *interface, *property;

        return sd_bus_message_read(message, "ssv", &interface, &property, "s", ret) >= 0
                ? 0
                : sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS, "A property of type s is expected");
}

int bus_set_log_level(sd_bus_message *message, Manager *m, sd_bus_error *error) {
        const char *value;
        int level, r;

        r = read_value(message, &value, error);
        if (r < 0)
                return r;
        level = log_level_from_string(value);
        if (level < 0)
                return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS, "'%s' is no log level", value);
        log_set_max_level(level);
        log_info("The log level is '%s' now", value);
        return sd_bus_reply_method_return(message, NULL);
}

int bus_set_log_target(sd_bus_message *message, Manager *m, sd_bus_error *error) {
        const char *value;
        LogTarget t;
        int r = read_value(message, &value, error);

        if (r < 0)
                return r;
        t = log_target_from_string(value);
        if (t < 0)
                return sd_bus_error_setf(
                        error, SD_BUS_ERROR_INVALID_ARGS,
                        "'%s' is no log target; use auto, journal or console", value);
        log_set_target(t);
        return sd_bus_reply_method_return(message, NULL);
}

static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        BUS_WRITABLE_PROPERTY("LogLevel", "s", get_property),
        BUS_WRITABLE_PROPERTY("LogTarget", "s", get_property),
        SD_BUS_PROPERTY("SyslogIdentifier", "s", get_property, 0, IS_CONST),
        SD_BUS_VTABLE_END,
};

int bus_log_control_attach(Manager *m) {
        int r = sd_bus_add_object(m->bus, NULL, LOG_CONTROL_OBJECT_PATH, bus_auth_set, m);

        if (r < 0)
                return r;
        return sd_bus_add_object_vtable(
                m->bus, NULL, LOG_CONTROL_OBJECT_PATH, LOG_CONTROL_INTERFACE, vtable, m);
}
