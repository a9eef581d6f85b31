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
        BUS_ACTION_LOOK,   /* open to all; only who it is must be known, for limits */
        _BUS_ACTION_MAX,
} BusAction;

/* Calls func with the message when its sender may do that, otherwise replies AccessDenied or, when asking
 * somebody for a password could help and the caller has not allowed that, InteractiveAuthorizationRequired.
 * func replies by itself, or returns an error (with `error` set or a negative errno), which is sent. What
 * func works on may have changed since the message came: it looks everything up again. Never called when the
 * sender has left the bus meanwhile. userdata is the manager. To be returned from a method handler.
 */
int bus_auth_call(sd_bus_message *message, BusAction action, sd_bus_message_handler_t func, void *userdata);

/* While a func of the above runs: the user on whose behalf. Otherwise 0: the daemon acts by itself. */
uid_t bus_auth_get_caller(const Manager *m) _pure_;

/* The calls that wait for an answer; a member of Manager. */
BusAuth *bus_auth_new(void);
BusAuth *bus_auth_free(BusAuth *a); /* drops all calls, unanswered; takes NULL */
