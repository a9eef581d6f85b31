/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who may change something: the one place where that is decided. Looking is open to all. Root may change
 * everything, others what polkit allows them; without polkit nobody else. Asking the bus who the sender is,
 * and polkit what he may, takes round trips (and somebody may have to type a password), for which the event
 * loop does not wait. */
#pragma once

#include <systemd/sd-bus.h>

#include "manager/manager.h"

typedef enum BusAction {
        BUS_ACTION_FINALIZE,
        BUS_ACTION_UNFINALIZE,
        BUS_ACTION_PRUNE,
        BUS_ACTION_REMOUNT,
        BUS_ACTION_MANAGE, /* pause, resume, cancel, reload, log level */
        BUS_ACTION_ASK,    /* open to all; only who it is must be known, for limits */
        BUS_ACTION_LOOK,   /* open to all */
        _BUS_ACTION_MAX,
} BusAction;

/* Replies by itself and returns 1, or returns a negative errno (and may set error). */
typedef int bus_handler_t(sd_bus_message *message, Manager *m, sd_bus_error *error);

/* A method, or a property that can be set. */
typedef struct BusMember {
        const char *interface;
        const char *name;
        BusAction action;
        bus_handler_t *handler;
} BusMember;

/* The handler of every method: calls that of the table when the sender may do that, otherwise replies
 * AccessDenied or, when asking somebody for a password could help and the caller has not allowed that,
 * InteractiveAuthorizationRequired. What is not in the table nobody may. What a handler works on may have
 * changed since the message came: it looks everything up again. It is not called when the sender has left
 * the bus meanwhile. */
int bus_auth_call(sd_bus_message *message, void *userdata, sd_bus_error *error);
/* The same for setting a property, as the callback of an object: a setter in a vtable cannot wait for an
 * answer about who is asking, so Set() is taken out of the stream before sd-bus looks at the vtable. */
int bus_auth_set(sd_bus_message *message, void *userdata, sd_bus_error *error);
/* Refuses: what makes a property writable for whoever introspects it. */
int bus_auth_no_setter(
        sd_bus *bus,
        const char *path,
        const char *interface,
        const char *property,
        sd_bus_message *value,
        void *userdata,
        sd_bus_error *error);

/* The only ways to declare them. */
#define BUS_METHOD(_name, _args, _result)                                                                   \
        SD_BUS_METHOD_WITH_ARGS(                                                                            \
                _name, SD_BUS_ARGS _args, SD_BUS_RESULT _result, bus_auth_call, SD_BUS_VTABLE_UNPRIVILEGED)
#define BUS_WRITABLE_PROPERTY(_name, _signature, _get)                                                      \
        SD_BUS_WRITABLE_PROPERTY(_name, _signature, _get, bus_auth_no_setter, 0, 0)

/* While a handler runs: the user on whose behalf. Otherwise 0: the daemon acts by itself. */
uid_t bus_auth_get_caller(const Manager *m) _pure_;

/* The table, up to a member without a name, which is borrowed, and the calls that wait for an answer. */
BusAuth *bus_auth_new(const BusMember *members);
BusAuth *bus_auth_free(BusAuth *a); /* drops all calls, unanswered; takes NULL */
