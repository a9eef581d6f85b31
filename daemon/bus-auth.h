/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who may change something: the one place where that is decided. Looking is open to all; changing needs root
 * for now. Asking the bus who the sender is takes a round trip, which the event loop does not wait for. */
#pragma once

#include <systemd/sd-bus.h>

typedef enum BusAction {
        BUS_ACTION_FINALIZE,
        BUS_ACTION_UNFINALIZE,
        BUS_ACTION_REMOUNT,
        BUS_ACTION_PRUNE,
        BUS_ACTION_MANAGE, /* pause, resume, cancel, reload, log level */
        _BUS_ACTION_MAX,
} BusAction;

/* Calls func with the message when its sender may do that, otherwise replies AccessDenied. func replies by
 * itself, or returns an error (with `error` set or a negative errno), which is sent. What func works on may
 * have changed since the message came: it looks everything up again. To be returned from a method handler.
 */
int bus_auth_call(sd_bus_message *message, BusAction action, sd_bus_message_handler_t func, void *userdata);
