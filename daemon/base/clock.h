/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The clocks, in microseconds. Where a loop runs, its own time is used instead (service/loop.h). */
#pragma once

#include <stdint.h>

uint64_t now_realtime_usec(void);
uint64_t now_monotonic_usec(void);
