/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What has happened on an overlay since the daemon was started: numbers that only grow. */
#pragma once

#include "base/histogram.h"

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
        _COUNTER_MAX,
} Counter;

typedef struct Counters {
        uint64_t values[_COUNTER_MAX];
        Histogram answers; /* of the lower layers, as entries were copied up */
} Counters;

/* As the bus has it; see also ctl/verb-metrics.c. */
const char *counter_to_string(Counter c) _pure_;
