/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/clock.h"

#include <string.h>

#include "base/macro.h"

static uint64_t now_usec(clockid_t clock) {
        struct timespec ts;

        (void) clock_gettime(clock, &ts);
        return (uint64_t) ts.tv_sec * USEC_PER_SEC + (uint64_t) ts.tv_nsec / NSEC_PER_USEC;
}

uint64_t now_realtime_usec(void) {
        return now_usec(CLOCK_REALTIME);
}

uint64_t now_monotonic_usec(void) {
        return now_usec(CLOCK_MONOTONIC);
}

uint64_t now_boottime_usec(void) {
        return now_usec(CLOCK_BOOTTIME);
}

char *clock_format(uint64_t realtime_usec) {
        time_t t = (time_t) (realtime_usec / USEC_PER_SEC);
        char text[64];
        struct tm tm;

        if (!localtime_r(&t, &tm) || strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm) == 0)
                return NULL;
        return strdup(text);
}

struct timespec clock_deadline(uint64_t usec) {
        struct timespec t;

        (void) clock_gettime(CLOCK_MONOTONIC, &t);
        usec += (uint64_t) t.tv_nsec / NSEC_PER_USEC;
        t.tv_sec += (time_t) (usec / USEC_PER_SEC);
        t.tv_nsec = (long) (usec % USEC_PER_SEC * NSEC_PER_USEC);
        return t;
}

uint64_t pause_after(unsigned n, uint64_t first, uint64_t longest) {
        while (n-- > 0 && first < longest)
                first = pause_next(first, longest);
        return first;
}
