/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "overlays/counters.h"

const char *counter_to_string(Counter c) {
        static const char *const names[_COUNTER_MAX] = {
                [COUNTER_JOBS_DONE] = "jobs_done",
                [COUNTER_JOBS_FAILED] = "jobs_failed",
                [COUNTER_JOBS_CANCELED] = "jobs_canceled",
                [COUNTER_DIRECTORIES_FINALIZED] = "directories_finalized",
                [COUNTER_ENTRIES] = "entries",
                [COUNTER_BYTES] = "bytes",
                [COUNTER_JOB_USEC] = "job_usec",
                [COUNTER_WORKERS_DIED] = "workers_died",
                [COUNTER_REPAIRS] = "repairs",
                [COUNTER_SWAPS_DONE] = "swaps_done",
                [COUNTER_SWAPS_FAILED] = "swaps_failed",
                [COUNTER_SWAPS_CANCELED] = "swaps_canceled",
        };

        return c >= 0 && c < _COUNTER_MAX ? names[c] : NULL;
}
