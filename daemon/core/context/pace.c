/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/context/pace.h"

#include <string.h>

#define FLOOR_USEC                                                                                          \
        200.0         /* faster answers come from a cache or a local disk: their differences say nothing */
#define WINDOW 4u     /* answers for each request under way before the limit is looked at */
#define FORGET 1.0001 /* what the fastest answer counts for, with every further one */

void aimd_init(Aimd *a, unsigned start, unsigned max, double slower) {
        *a = (Aimd){ .limit = start < max ? start : max, .max = max, .slower = slower };
}

bool aimd_observe(Aimd *a, PaceKind kind, uint64_t usec) {
        double *base = a->base_usec + kind, took = usec > FLOOR_USEC ? (double) usec : FLOOR_USEC;
        unsigned before = a->limit;

        *base = *base == 0 || took < *base ? took : *base * FORGET;
        a->sum += took / *base;
        if (++a->n < a->limit * WINDOW)
                return false;
        if (a->sum / a->n > a->slower)
                a->limit = a->limit > 1 ? a->limit / 2 : 1;
        else if (a->limit < a->max)
                a->limit++;
        a->sum = 0;
        a->n = 0;
        return a->limit != before;
}

uint64_t bucket_take(Bucket *b, uint64_t n, uint64_t now_usec) {
        uint64_t begin = b->next_usec > now_usec ? b->next_usec : now_usec;

        if (b->rate == UINT64_MAX)
                return 0;
        b->next_usec = begin + n * USEC_PER_SEC / (b->rate > 0 ? b->rate : 1);
        return begin - now_usec;
}

int pressure_parse(const char *text, double *ret_percent) {
        static const char prefix[] = "some avg10=";
        double v;
        char *end;

        if (strncmp(text, prefix, strlen(prefix)) != 0)
                return -EBADMSG;
        v = strtod(text + strlen(prefix), &end);
        if (end == text + strlen(prefix) || *end != ' ' || !(v >= 0 && v <= 100))
                return -EBADMSG;
        *ret_percent = v;
        return 0;
}
