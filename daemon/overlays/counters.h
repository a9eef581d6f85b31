/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What has happened on an overlay since the daemon was started: numbers that only grow, and how many misses
 * there were lately. They are in memory only. What is hot is not told by them (heat.h). */
#pragma once

#include "base/histogram.h"
#include "overlays/heat.h"

typedef enum Counter {
        COUNTER_JOBS_DONE, /* results stand in this order, of swaps too */
        COUNTER_JOBS_FAILED,
        COUNTER_JOBS_CANCELED,
        COUNTER_DIRECTORIES_FINALIZED,
        COUNTER_ENTRIES,  /* taken care of by jobs */
        COUNTER_BYTES,    /* of data, written to the upper layer */
        COUNTER_JOB_USEC, /* spent by jobs from their start to their end */
        COUNTER_WORKERS_DIED,
        COUNTER_REPAIRS, /* what surveys put in order */
        COUNTER_SWAPS_DONE,
        COUNTER_SWAPS_FAILED,
        COUNTER_SWAPS_CANCELED,
        COUNTER_SEARCHES, /* as Use has them, of all directories */
        COUNTER_MISSES,
        COUNTER_SAVED,
        _COUNTER_MAX,
} Counter;

typedef struct Counters {
        uint64_t values[_COUNTER_MAX];
        Histogram answers; /* of the lower layers, as entries were copied up */
        double recent_misses, recent_saved;
        uint64_t use_usec; /* as of when */
} Counters;

/* What has been used somewhere. now_usec: monotonic. */
void counters_use(Counters *c, const Use *use, uint64_t now_usec);
/* Of the last few seconds. */
void counters_rates(const Counters *c, uint64_t now_usec, double *ret_misses, double *ret_saved);
/* As the bus has it; see also ctl/verb-metrics.c. */
const char *counter_to_string(Counter c) _pure_;
