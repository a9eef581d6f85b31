/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/loop.h"

uint64_t loop_now(sd_event *event, clockid_t clock) {
        uint64_t usec = 0;

        (void) sd_event_now(event, clock, &usec);
        return usec;
}
