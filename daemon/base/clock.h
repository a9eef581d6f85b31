/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

uint64_t now_realtime_usec(void);
uint64_t now_monotonic_usec(void);
