/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "histogram.h"

uint64_t histogram_bound(size_t i) {
        static const uint64_t bounds[HISTOGRAM_CLASSES] = {
                100, 300, 1000, 3000, 10000, 30000, 100000, 300000, 1000000, 3000000, UINT64_MAX,
        };

        return bounds[i];
}

void histogram_add(Histogram *h, uint64_t usec) {
        size_t i = 0;

        while (usec > histogram_bound(i))
                i++;
        h->counts[i]++;
        h->sum_usec += usec;
}

void histogram_merge(Histogram *h, const Histogram *other) {
        for (size_t i = 0; i < HISTOGRAM_CLASSES; i++)
                h->counts[i] += other->counts[i];
        h->sum_usec += other->sum_usec;
}
