/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What all parts of the daemon share: the loop, the worker processes, the state directory, the machine's id.
 * The manager owns it; the others only read it. */
#pragma once

#include "process/proc.h"
#include "service/spread.h"

typedef struct Host {
        sd_event *event;
        ProcPool *workers;
        char *state_dir; /* absolute */
        uint8_t machine[SPREAD_MACHINE_SIZE];
        bool is_paused;
        bool is_stopping;
} Host;
