/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How values are written into messages and read from them. Names of files are escaped on the way out and
 * unescaped on the way in (base/utf8.h). What an option means says the method's own callback; reading ends
 * at the first option that it refuses, and the failure tells which. */
#pragma once

#include <systemd/sd-bus.h>

#include "base/failure.h"

/* Fills error from a failure and returns the negative errno a handler is to return. */
int bus_error_from_failure(sd_bus_error *error, const Failure *f);
/* The D-Bus error name of a kind; a static string. */
const char *bus_error_name(FailureKind kind);
/* Appends a string ("" for NULL) that may come from a file system or from a message about one, as
 * utf8_escape() writes it. */
int bus_append_text(sd_bus_message *m, const char *text);
/* Appends {sv} entries: in types a letter for each pair of a key and a value that follows. 's': a string as
 * above, nothing at all for NULL; 't': uint64_t; 'u' and 'b': int. */
int bus_append_entries(sd_bus_message *m, const char *types, ...);
/* The same as an a{sv}. */
int bus_append_dictionary(sd_bus_message *m, const char *types, ...);

/* Sends an array as the answer. append adds what is in it; its negative errno is passed on. */
int bus_reply_list(
        sd_bus_message *message,
        const char *contents,
        int (*append)(sd_bus_message *reply, void *userdata),
        void *userdata);

/* Getters of properties that are a member of the object, at the offset that the vtable says: a text that may
 * be NULL and is escaped as above, a bool, and a uint64_t as "u". */
#define PROPERTY_GETTER(name)                                                                               \
        int name(                                                                                           \
                sd_bus *bus, const char *path, const char *interface, const char *property,                 \
                sd_bus_message *reply, void *userdata, sd_bus_error *error)
PROPERTY_GETTER(bus_get_text);
PROPERTY_GETTER(bus_get_bool);
PROPERTY_GETTER(bus_get_count);

/* Reads the value of an option, a variant; -ENXIO where that is of another type. */
typedef int (*bus_read_option_t)(sd_bus_message *message, const char *key, void *userdata, Failure *reterr);
/* Reads an a{sv}; what is of a wrong type is an explained -EINVAL. */
int bus_read_options(sd_bus_message *message, bus_read_option_t read, void *userdata, Failure *reterr);
int bus_read_flag(sd_bus_message *message, bool *ret);
/* Reads a string that may be a path, as above; owned by the caller. */
int bus_read_text(sd_bus_message *message, char **ret);
