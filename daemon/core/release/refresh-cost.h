/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How much data a refresh would copy, and whether that is too much for one that nobody has asked for. It
 * copies nothing. It tells rather too much than too little: where holes cannot be seen, the whole file
 * counts. */
#pragma once

#include "core/lower/difference.h"

/* Of one directory: bytes that are written, holes left out. */
typedef struct RefreshCost {
        uint64_t bytes;   /* in all */
        uint64_t largest; /* of one file */
} RefreshCost;

/* Of one difference. May ask the lower where the holes of a file are. */
uint64_t refresh_measure(const DifferenceScope *s, const Difference *x);
void refresh_cost_add(RefreshCost *c, uint64_t bytes);
/* By refresh_max_bytes, and by what is to stay free. */
bool refresh_cost_is_too_much(const RefreshCost *c, const Context *context, const char *path);
