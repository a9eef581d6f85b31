/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* RandomizedDelaySec=: when each of many hosts does what all of them are to do. As with FixedRandomDelay= of
 * systemd's timers, a delay is not drawn but derived from the machine id: nothing has to be remembered, and
 * a daemon that is started anew begins nothing over. It differs by directory as well, so that no host is
 * always the first or the last. Pure, but for spread_machine(). */
#pragma once

#include "base/macro.h"

#define SPREAD_MACHINE_SIZE 16
#define SPREAD_MAX_USEC (365 * UINT64_C(86400) * USEC_PER_SEC)

/* Who this host is, for spread_delay() alone: derived from /etc/machine-id, or without one at random. */
void spread_machine(uint8_t ret[SPREAD_MACHINE_SIZE]);
/* From 0 to most_usec, evenly; at most SPREAD_MAX_USEC. path may be "". */
uint64_t spread_delay(
        const uint8_t machine[SPREAD_MACHINE_SIZE],
        const char *overlay,
        const char *path,
        uint64_t most_usec) _pure_;
