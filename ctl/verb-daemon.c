/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* reload, log-level: what is asked of the daemon itself, one call each. Whether the caller may do it, and
 * what follows from it, the daemon decides. */

#include "base/utf8.h"
#include "ctl/json.h"
#include "ctl/verbs.h"
#include "dbus/names.h"

int verb_reload(Ctl *c, int argc, char **argv) {
        int r = client_call(&c->client, "Reload", /* ret= */ NULL, NULL);

        return r < 0 ? client_report(&c->client, r, "reload the configuration") : EXIT_CODE_OK;
}

static int print_log_level(Ctl *c, const char *level) {
        _cleanup_record_ Record record = { 0 };
        _cleanup_free_ char *safe = utf8_escape_line(level);

        record_set_string(&record, "log_level", level);
        if (!safe || record.is_incomplete)
                return print_oom();
        if (c->options.json != JSON_OFF)
                json_print(stdout, c->options.json, &record);
        else
                (void) puts(safe);
        return EXIT_CODE_OK;
}

int verb_log_level(Ctl *c, int argc, char **argv) {
        _cleanup_free_ char *level = NULL;
        int r = client_acquire(&c->client);

        if (argc > 0) {
                if (r >= 0)
                        r = sd_bus_set_property(
                                c->client.bus, OVLFIND_BUS_NAME, LOG_CONTROL_OBJECT_PATH,
                                LOG_CONTROL_INTERFACE, "LogLevel", &c->client.error, "s", argv[0]);
                return r < 0 ? client_report(&c->client, r, "set the log level to '%s'", argv[0])
                             : EXIT_CODE_OK;
        }
        if (r >= 0)
                r = sd_bus_get_property_string(
                        c->client.bus, OVLFIND_BUS_NAME, LOG_CONTROL_OBJECT_PATH, LOG_CONTROL_INTERFACE,
                        "LogLevel", &c->client.error, &level);
        return r < 0 ? client_report(&c->client, r, "read the log level") : print_log_level(c, level);
}
