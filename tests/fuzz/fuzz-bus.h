/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A bus for messages that are made and read, and go nowhere. */
#pragma once

#include <sys/socket.h>
#include <systemd/sd-bus.h>

#include "fuzz.h"

static inline sd_bus *fuzz_bus(void) {
        static sd_bus *b;
        int ends[2];

        if (b)
                return b;
        HOLDS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
        HOLDS(sd_bus_new(&b) >= 0 && sd_bus_set_fd(b, ends[0], ends[0]) >= 0 && sd_bus_start(b) >= 0);
        return b;
}
