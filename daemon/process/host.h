/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What all parts of the daemon share. The manager owns it. */
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
