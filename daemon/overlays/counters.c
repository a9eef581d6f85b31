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
                [COUNTER_SEARCHES] = "searches",
                [COUNTER_MISSES] = "misses",
                [COUNTER_SAVED] = "saved",
        };

        return c >= 0 && c < _COUNTER_MAX ? names[c] : NULL;
}

void counters_use(Counters *c, const Use *use, uint64_t now_usec) {
        uint64_t age = now_usec - c->use_usec;

        c->values[COUNTER_SEARCHES] += use->searches;
        c->values[COUNTER_MISSES] += use->misses;
        c->values[COUNTER_SAVED] += use->saved;
        c->recent_misses = heat_decay(c->recent_misses, age, HEAT_RATE_USEC) + (double) use->misses;
        c->recent_saved = heat_decay(c->recent_saved, age, HEAT_RATE_USEC) + (double) use->saved;
        c->use_usec = now_usec;
}

void counters_rates(const Counters *c, uint64_t now_usec, double *ret_misses, double *ret_saved) {
        *ret_misses = heat_rate(c->recent_misses, now_usec - c->use_usec);
        *ret_saved = heat_rate(c->recent_saved, now_usec - c->use_usec);
}
