/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The time in the event loop: when it woke up. It is the same for all that is done in one turn of the loop.
 * Elsewhere there are the clocks of base/clock.h. */
#pragma once

#include <systemd/sd-event.h>

/* When the loop woke up, in microseconds of a clock. */
uint64_t loop_now(sd_event *event, clockid_t clock);
