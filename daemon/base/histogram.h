/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How long answers took, in classes that fit a local disk as well as a server far away. */
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
