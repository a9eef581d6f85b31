/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/client.h"

#include <stdarg.h>
#include <string.h>

#include "base/str.h"
#include "ctl/agent.h"
#include "ctl/term.h"
#include "dbus/names.h"

#define CALL_TIMEOUT_USEC (90 * USEC_PER_SEC)         /* a Check() or Reload() may wait for a disk */
#define PASSWORD_TIMEOUT_USEC (5 * 60 * USEC_PER_SEC) /* and a user who looks for his password longer */

int client_acquire(Client *c) {
        int r;

        sd_bus_error_free(&c->error);
        if (c->bus)
                return 0;
        r = endpoint_open(&c->endpoint, &c->bus);
        if (r < 0)
                return r;
        (void) sd_bus_set_allow_interactive_authorization(c->bus, true);
        (void) sd_bus_set_method_call_timeout(c->bus, CALL_TIMEOUT_USEC);
        return 0;
}

void client_done(Client *c) {
        sd_bus_error_free(&c->error);
        c->bus = sd_bus_flush_close_unref(c->bus);
}

static void report_unreachable(const Client *c, int r, const char *what, const char *why) {
        _cleanup_free_ char *where = endpoint_text(&c->endpoint),
                            *advice = c->bus ? NULL : endpoint_advice(&c->endpoint, r);

        if (c->bus)
                print_error("cannot %s: ovlfind%s cannot be reached: %s", what, where ?: "", why);
        else
                print_error(
                        "cannot %s: no connection to the bus%s: %s%s", what, where ?: "", why, advice ?: "");
}

static int report(const Client *c, int r, const char *what) {
        const sd_bus_error *e = &c->error;
        bool is_remote = sd_bus_error_is_set(e);
        ExitCode code = is_remote ? exit_code_from_error_name(e->name) : EXIT_CODE_FAILURE;
        const char *why = is_remote && e->message && *e->message ? e->message : strerror(-r);

        if (!c->bus || r == -ECONNRESET || r == -ENOTCONN || r == -EPIPE)
                code = EXIT_CODE_UNREACHABLE;
        if (code == EXIT_CODE_UNREACHABLE)
                report_unreachable(c, r, what, why);
        else
                print_error("cannot %s: %s", what, why);
        return (int) code;
}

int client_report(const Client *c, int r, const char *format, ...) {
        _cleanup_free_ char *what = NULL;
        va_list ap;

        va_start(ap, format);
        what = str_formatv(format, ap);
        va_end(ap);
        return what ? report(c, r, what) : print_oom();
}

int client_send(Client *c, sd_bus_message *m, sd_bus_message **ret) {
        int r;

        sd_bus_error_free(&c->error);
        r = sd_bus_call(c->bus, m, /* timeout= */ 0, &c->error, ret);
        if (r >= 0 || !sd_bus_error_has_name(&c->error, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED) ||
            endpoint_is_remote(&c->endpoint) || !agent_open()) /* one here would ask for a polkit there */
                return r;
        sd_bus_error_free(&c->error);
        return sd_bus_call(c->bus, m, PASSWORD_TIMEOUT_USEC, &c->error, ret);
}

static int callv(Client *c, const char *member, sd_bus_message **ret, const char *types, va_list ap) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r = client_acquire(c);

        if (r >= 0)
                r = sd_bus_message_new_method_call(
                        c->bus, &m, OVLFIND_BUS_NAME, OVLFIND_OBJECT_PATH, OVLFIND_MANAGER_INTERFACE,
                        member);
        if (r >= 0 && types)
                r = sd_bus_message_appendv(m, types, ap);
        return r < 0 ? r : client_send(c, m, ret);
}

int client_call(Client *c, const char *member, sd_bus_message **ret, const char *types, ...) {
        va_list ap;
        int r;

        va_start(ap, types);
        r = callv(c, member, ret, types, ap);
        va_end(ap);
        return r;
}

int client_call_list(Client *c, const char *member, RecordList *ret, const char *types, ...) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_record_list_ RecordList l = { 0 };
        va_list ap;
        int r;

        va_start(ap, types);
        r = callv(c, member, &reply, types, ap);
        va_end(ap);
        if (r >= 0)
                r = record_list_read(&l, reply);
        if (r < 0)
                return r;
        for (size_t i = 0; i < l.n; i++)
                record_drop_unknown(&l.items[i]);
        *ret = TAKE_STRUCT(l);
        return 0;
}

int client_get_all(Client *c, const char *object, const char *interface, Record *ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_record_ Record record = { 0 };
        int r = client_acquire(c);

        if (r >= 0)
                r = sd_bus_call_method(
                        c->bus, OVLFIND_BUS_NAME, object, "org.freedesktop.DBus.Properties", "GetAll",
                        &c->error, &reply, "s", interface);
        if (r >= 0)
                r = record_read(&record, reply);
        if (r < 0)
                return r;
        record_drop_unknown(&record);
        *ret = TAKE_STRUCT(record);
        return 0;
}

/* The object path of the current a(so) or a(uo) entry. 0 at the end. */
static int read_object(sd_bus_message *m, const char **ret) {
        const char *contents;
        char type;
        int r = sd_bus_message_peek_type(m, &type, &contents);

        if (r <= 0)
                return r;
        if ((r = sd_bus_message_enter_container(m, 'r', contents)) < 0 ||
            (r = sd_bus_message_skip(m, contents[0] == 's' ? "s" : "u")) < 0 ||
            (r = sd_bus_message_read_basic(m, 'o', ret)) < 0 || (r = sd_bus_message_exit_container(m)) < 0)
                return r;
        return 1;
}

static bool has_vanished(const sd_bus_error *e) {
        return sd_bus_error_has_name(e, SD_BUS_ERROR_UNKNOWN_OBJECT) ||
                sd_bus_error_has_name(e, SD_BUS_ERROR_UNKNOWN_INTERFACE) ||
                sd_bus_error_has_name(e, SD_BUS_ERROR_UNKNOWN_PROPERTY);
}

static int list_add(Client *c, const char *object, const char *interface, RecordList *l) {
        _cleanup_record_ Record record = { 0 };
        int r = client_get_all(c, object, interface, &record);

        if (r < 0)
                return has_vanished(&c->error) ? 0 : r;
        record_set_string(&record, "object", object);
        return record_list_take(l, &record);
}

int client_list(Client *c, const char *member, const char *interface, RecordList *ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_record_list_ RecordList l = { 0 };
        const char *contents, *object;
        char type;
        int r = client_call(c, member, &reply, NULL);

        if (r >= 0)
                r = sd_bus_message_peek_type(reply, &type, &contents);
        if (r >= 0)
                r = sd_bus_message_enter_container(reply, 'a', contents);
        while (r >= 0 && (r = read_object(reply, &object)) > 0)
                r = list_add(c, object, interface, &l);
        if (r < 0)
                return r;
        *ret = TAKE_STRUCT(l);
        return 0;
}
