/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How values are written into messages and read from them. */
#include "bus/message.h"

#include <stdarg.h>

#include "base/utf8.h"
#include "dbus/names.h"

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

static int append_string(sd_bus_message *m, const char *key, const char *value) {
        _cleanup_free_ char *escaped = value ? utf8_escape(value) : NULL;

        if (!value)
                return 0;
        return escaped ? sd_bus_message_append(m, "{sv}", key, "s", escaped) : -ENOMEM;
}

static int append_entries(sd_bus_message *m, const char *types, va_list ap) {
        int r = 0;

        for (; *types && r >= 0; types++) {
                const char *key = va_arg(ap, const char *);

                if (*types == 's')
                        r = append_string(m, key, va_arg(ap, const char *));
                else if (*types == 't')
                        r = sd_bus_message_append(m, "{sv}", key, "t", va_arg(ap, uint64_t));
                else
                        r = sd_bus_message_append(m, "{sv}", key, (char[]){ *types, 0 }, va_arg(ap, int));
        }
        return r;
}

int bus_append_entries(sd_bus_message *m, const char *types, ...) {
        va_list ap;
        int r;

        va_start(ap, types);
        r = append_entries(m, types, ap);
        va_end(ap);
        return r;
}

int bus_append_dictionary(sd_bus_message *m, const char *types, ...) {
        int r = sd_bus_message_open_container(m, 'a', "{sv}");
        va_list ap;

        va_start(ap, types);
        if (r >= 0)
                r = append_entries(m, types, ap);
        va_end(ap);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

int bus_reply_list(
        sd_bus_message *message,
        const char *contents,
        int (*append)(sd_bus_message *reply, void *userdata),
        void *userdata) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        int r;

        if ((r = sd_bus_message_new_method_return(message, &reply)) < 0 ||
            (r = sd_bus_message_open_container(reply, 'a', contents)) < 0 ||
            (r = append(reply, userdata)) < 0 || (r = sd_bus_message_close_container(reply)) < 0)
                return r;
        return sd_bus_message_send(reply);
}

PROPERTY_GETTER(bus_get_text) {
        return bus_append_text(reply, *(char **) userdata);
}

PROPERTY_GETTER(bus_get_bool) {
        return sd_bus_message_append(reply, "b", (int) *(bool *) userdata);
}

PROPERTY_GETTER(bus_get_count) {
        return sd_bus_message_append(reply, "u", (uint32_t) * (uint64_t *) userdata);
}

int bus_read_text(sd_bus_message *message, char **ret) {
        const char *text;
        int r = sd_bus_message_read(message, "s", &text);

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
        int r = sd_bus_message_read(message, "s", &key);

        if (r < 0)
                return r;
        r = read(message, key, userdata, reterr);
        if (r == -ENXIO)
                return failure_set(reterr, FAILURE_INVALID, EINVAL, "option '%s' has the wrong type", key);
        return r < 0 ? r : sd_bus_message_exit_container(message);
}

int bus_read_options(sd_bus_message *message, bus_read_option_t read, void *userdata, Failure *reterr) {
        int r = sd_bus_message_enter_container(message, 'a', "{sv}");

        while (r >= 0 && (r = sd_bus_message_enter_container(message, 'e', "sv")) > 0)
                r = read_entry(message, read, userdata, reterr);
        return r < 0 ? r : sd_bus_message_exit_container(message);
}
