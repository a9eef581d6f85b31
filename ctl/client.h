/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The connection to the daemon. It is made on first use, so that verbs that may do without a daemon can.
 * Calls are synchronous: a client has nothing better to do; waiting for jobs is job-wait's affair. It knows
 * no verb, and prints nothing but errors. What the daemon refuses is known by the name of the D-Bus error,
 * never by its text. */
#pragma once

#include <systemd/sd-bus.h>

#include "ctl/endpoint.h"
#include "ctl/exit-code.h"
#include "ctl/record.h"

typedef struct Client {
        Endpoint endpoint;
        sd_bus *bus;
        sd_bus_error error; /* what the daemon said to the last call, if it refused that */
} Client;

/* Connects when that has not happened yet, and forgets the last error. Negative errno; the caller reports it
 * with client_report(). */
int client_acquire(Client *c);
void client_done(Client *c);

/* Says "ovlfinctl: cannot <what>: <why>" and returns the exit code for it. Without an answer of the daemon
 * r, a negative errno, is the reason, and when there is no connection yet, its lack is. */
int client_report(const Client *c, int r, const char *format, ...) _printf_(3, 4);

/* Calls a method of the manager: types and arguments as in sd_bus_message_append(). ret may be NULL. */
int client_call(Client *c, const char *member, sd_bus_message **ret, const char *types, ...);
/* The same for a method that answers with aa{sv}. */
int client_call_list(Client *c, const char *member, RecordList *ret, const char *types, ...);
/* Sends a message made by the caller. When that needs a password, asks for it if there is a terminal to ask
 * on. ret may be NULL. */
int client_send(Client *c, sd_bus_message *m, sd_bus_message **ret);
/* All properties of an object. */
int client_get_all(Client *c, const char *object, const char *interface, Record *ret);
/* Calls ListOverlays() or ListJobs() and reads the properties of each object; "object" is added to each
 * record. Objects that vanish meanwhile are left out. */
int client_list(Client *c, const char *member, const char *interface, RecordList *ret);
