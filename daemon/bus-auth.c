/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-auth.h"

#include "base/macro.h"

#define AUTH_USEC (10 * USEC_PER_SEC)

typedef struct Call {
        sd_bus_message *message;
        BusAction action;
        sd_bus_message_handler_t func;
        void *userdata;
} Call;

static const char *const action_names[_BUS_ACTION_MAX] = {
        [BUS_ACTION_FINALIZE] = "finalize directories", [BUS_ACTION_UNFINALIZE] = "unfinalize directories",
        [BUS_ACTION_REMOUNT] = "remount overlays",      [BUS_ACTION_PRUNE] = "prune directories",
        [BUS_ACTION_MANAGE] = "manage ovlfind",
};

/* Called by sd-bus when the slot of the question goes, answered or not. */
static void call_free(void *userdata) {
        Call *c = userdata;

        (void) sd_bus_message_unref(c->message);
        free(c);
}

/* The daemon's own user counts too: it could do the same without asking. */
static bool user_may(uid_t uid) {
        return uid == 0 || uid == geteuid();
}

static int on_sender_known(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        Call *c = userdata;
        uint32_t uid;
        int r;

        /* Who is not on the bus any more gets no answer and no effect. */
        if (sd_bus_message_is_method_error(reply, NULL) || sd_bus_message_read(reply, "u", &uid) < 0)
                return sd_bus_reply_method_errorf(
                        c->message, SD_BUS_ERROR_ACCESS_DENIED, "Cannot find out who is asking");
        if (!user_may(uid))
                return sd_bus_reply_method_errorf(
                        c->message, SD_BUS_ERROR_ACCESS_DENIED, "Only root may %s; try it with sudo",
                        action_names[c->action]);
        r = c->func(c->message, c->userdata, &error);
        if (sd_bus_error_is_set(&error))
                return sd_bus_reply_method_error(c->message, &error);
        return r < 0 ? sd_bus_reply_method_errno(c->message, r, NULL) : r;
}

int bus_auth_call(sd_bus_message *message, BusAction action, sd_bus_message_handler_t func, void *userdata) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *question = NULL;
        sd_bus *bus = sd_bus_message_get_bus(message);
        const char *sender = sd_bus_message_get_sender(message);
        sd_bus_slot *slot;
        Call *c;
        int r;

        r = sd_bus_message_new_method_call(
                bus, &question, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
                "GetConnectionUnixUser");
        if (r < 0)
                return r;
        r = sd_bus_message_append(question, "s", sender);
        if (r < 0)
                return r;
        c = malloc(sizeof(Call));
        if (!c)
                return -ENOMEM;
        *c = (Call){ sd_bus_message_ref(message), action, func, userdata };
        r = sd_bus_call_async(bus, &slot, question, on_sender_known, c, AUTH_USEC);
        if (r < 0) {
                call_free(c);
                return r;
        }
        (void) sd_bus_slot_set_destroy_callback(slot, call_free);
        (void) sd_bus_slot_set_floating(slot, true);
        (void) sd_bus_slot_unref(slot);
        return 1;
}
