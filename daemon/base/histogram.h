/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How long answers took: counts of answers in fixed classes, which fit a local disk as well as a server far
 * away. Single times are not kept. Each answer is in exactly one class; the last one has no bound. */
#pragma once

#include "base/macro.h"

#define HISTOGRAM_CLASSES 11

typedef struct Histogram {
        uint64_t counts[HISTOGRAM_CLASSES]; /* of each class alone */
        uint64_t sum_usec;
} Histogram;

void histogram_add(Histogram *h, uint64_t usec);
void histogram_merge(Histogram *h, const Histogram *other);
/* The longest answer that belongs to class i, in microseconds; UINT64_MAX for the last one. */
uint64_t histogram_bound(size_t i) _pure_;
