/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The clocks, in microseconds, and pauses that grow from one attempt to the next. Nobody is made to wait
 * here. Where an event loop runs, the loop's own time is used instead (service/loop.h). */
#pragma once

#include <stdint.h>
#include <time.h>

uint64_t now_realtime_usec(void);
uint64_t now_monotonic_usec(void);
uint64_t now_boottime_usec(void);
/* So long from now, on CLOCK_MONOTONIC. */
struct timespec clock_deadline(uint64_t usec);
/* A realtime as people read it, in local time; owned by the caller. NULL: it is no time, or out of memory.
 */
char *clock_format(uint64_t realtime_usec);

/* The next of pauses that double until they are the longest one, of any unit. */
static inline uint64_t pause_next(uint64_t pause, uint64_t longest) {
        return pause < longest / 2 ? 2 * pause : longest;
}
/* The one after n others, the first of which was so long. */
uint64_t pause_after(unsigned n, uint64_t first, uint64_t longest);
