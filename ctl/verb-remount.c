/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* remount: one overlay, by name or by a path on it. */
#include "ctl/job-run.h"
#include "ctl/target.h"
#include "ctl/verbs.h"
#include "dbus/names.h"

static int append_options(sd_bus_message *m, const Options *o) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0 && o->method)
                r = job_append_option(m, "method", "s", o->method);
        if (r >= 0 && o->set)
                r = job_append_option(m, "set", "s", o->set);
        if (r >= 0 && options_have(o, OPTION_DRY_RUN))
                r = job_append_option(m, "dry-run", "b", true);
        if (r >= 0 && options_have(o, OPTION_FORCE))
                r = job_append_option(m, "force", "b", true);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int start(Ctl *c, const char *overlay, JobWait *w, const char *argument, sd_bus_error *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        const char *object;
        int r;

        r = sd_bus_message_new_method_call(
                c->client.bus, &m, OVLFIND_BUS_NAME, OVLFIND_OBJECT_PATH, OVLFIND_MANAGER_INTERFACE,
                "Remount");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", overlay);
        if (r >= 0)
                r = append_options(m, &c->options);
        if (r >= 0)
                r = sd_bus_call(c->client.bus, m, /* timeout= */ 0, reterr, &reply);
        if (r >= 0)
                r = sd_bus_message_read(reply, "o", &object);
        return r < 0 ? r : job_wait_add(w, object, argument, argument);
}

int verb_remount(Ctl *c, int argc, char **argv) {
        _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
        _cleanup_(job_wait_freep) JobWait *w = NULL;
        _cleanup_free_ char *overlay = NULL;
        int r;

        r = overlay_resolve(c, "remount", argv[0], &overlay, /* ret_below= */ NULL);
        if (r != 0)
                return r;
        r = job_wait_new(c, "remount", &w, &e);
        if (r >= 0)
                r = start(c, overlay, w, argv[0], &e);
        if (r < 0)
                return (int) client_report(&c->client, &e, r, "remount '%s'", argv[0]);
        return job_run(c, "remount", w);
}
