/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* monitor: every signal of the daemon as it comes, a line each, until Ctrl-C, the end of the reader, or
 * that of the bus. It asks for nothing and keeps nothing. A signal of a newer daemon with another shape is
 * shown as far as it is understood. */
#include <string.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "ctl/format.h"
#include "ctl/json.h"
#include "ctl/table.h"
#include "ctl/verbs.h"
#include "dbus/names.h"

/* Names of the arguments of signals, in order; more of them say nothing to people. */
static const struct {
        const char *member;
        const char *keys[3];
} signal_table[] = {
        { "JobNew", { "id", "job" } },
        { "JobRemoved", { "id", "job", "result" } },
        { "DirectoryChanged", { "overlay", "path", "state" } },
        { "Remounted", { "overlay", "method", "usec" } },
        { "PropertiesChanged", { "interface", "changed" } },
        { "InterfacesAdded", { "object" } },
        { "InterfacesRemoved", { "object" } },
};

/* As far as it can be. */
static void read_signal(Record *r, sd_bus_message *m) {
        const char *member = sd_bus_message_get_member(m);
        int k = 0;

        record_set_number(r, "time_usec", now_realtime_usec());
        record_set_string(r, "signal", member);
        record_set_string(r, "object", sd_bus_message_get_path(m));
        for (size_t i = 0; i < ELEMENTSOF(signal_table); i++)
                for (size_t j = 0; j < ELEMENTSOF(signal_table[i].keys) && k >= 0; j++)
                        if (signal_table[i].keys[j] && strcmp(signal_table[i].member, member) == 0)
                                k = record_read_value(r, signal_table[i].keys[j], m);
}

/* " key=value key=value" */
static int print_fields(const Record *r) {
        for (size_t i = 0; i < r->n; i++) {
                _cleanup_free_ char *text = NULL;
                const Field *f = &r->fields[i];
                int k;

                if (strcmp(f->key, "time_usec") == 0 || strcmp(f->key, "signal") == 0)
                        continue;
                if (f->value.type == VALUE_RECORD) {
                        k = print_fields(&f->value.list.items[0]);
                        if (k < 0)
                                return k;
                        continue;
                }
                text = value_to_text(&f->value);
                if (!text)
                        return -ENOMEM;
                if (*text) /* a property that is empty says nothing */
                        (void) printf(" %s=%s", f->key, text);
        }
        return 0;
}

static int print_signal(const Ctl *c, const Record *r) {
        uint64_t usec = record_get_number(r, "time_usec", 0);
        _cleanup_free_ char *when = format_timestamp(usec),
                            *name = utf8_escape_line(record_get_string(r, "signal") ?: "?");

        if (c->options.json != JSON_OFF) {
                json_print(stdout, c->options.json, r);
                return 0;
        }
        if (!when || !name)
                return -ENOMEM;
        (void) printf("%s.%03u %s", when, (unsigned) (usec / USEC_PER_MSEC % 1000), name);
        if (print_fields(r) < 0)
                return -ENOMEM;
        (void) putchar('\n');
        return 0;
}

static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        _cleanup_record_ Record record = { 0 };
        Ctl *c = userdata;

        read_signal(&record, m);
        return print_signal(c, &record);
}

/* The daemon came or went: not its own signal, but who watches wants to know. */
static int on_owner_changed(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        _cleanup_record_ Record record = { 0 };
        const char *name, *old, *new;
        Ctl *c = userdata;
        int r = sd_bus_message_read(m, "sss", &name, &old, &new);

        if (r < 0)
                return r;
        record_set_number(&record, "time_usec", now_realtime_usec());
        record_set_string(&record, "signal", *new ? "Started" : "Stopped");
        return record.is_incomplete ? -ENOMEM : print_signal(c, &record);
}

static int subscribe(Ctl *c) {
        int r = client_acquire(&c->client);

        if (r < 0)
                return r;
        r = sd_bus_add_match(
                c->client.bus, /* slot= */ NULL,
                "type='signal',sender='" OVLFIND_BUS_NAME "',path_namespace='" OVLFIND_OBJECT_PATH "'",
                on_signal, c);
        if (r < 0)
                return r;
        return sd_bus_add_match(
                c->client.bus, /* slot= */ NULL,
                "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" OVLFIND_BUS_NAME "'",
                on_owner_changed, c);
}

/* Until Ctrl-C (which simply ends the process), the reader's end, or the bus's. */
static int stream(Ctl *c) {
        int r;

        for (;;) {
                r = sd_bus_process(c->client.bus, NULL);
                if (r < 0)
                        break;
                if (r > 0)
                        continue;
                if (fflush(stdout) != 0)
                        return EXIT_CODE_FAILURE;
                r = sd_bus_wait(c->client.bus, UINT64_MAX);
                if (r < 0 && r != -EINTR)
                        break;
        }
        print_error("lost the connection to the bus: %s", strerror(-r));
        return EXIT_CODE_FAILURE;
}

int verb_monitor(Ctl *c, int argc, char **argv) {
        int r = subscribe(c);

        if (r >= 0) /* starts the daemon when the bus can */
                r = sd_bus_call_method(
                        c->client.bus, OVLFIND_BUS_NAME, OVLFIND_OBJECT_PATH, "org.freedesktop.DBus.Peer",
                        "Ping", &c->client.error, /* reply= */ NULL, NULL);
        if (r < 0)
                return client_report(&c->client, r, "monitor ovlfind");
        return stream(c);
}
