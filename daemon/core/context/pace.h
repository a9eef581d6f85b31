/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How fast to go, as numbers: requests under way at once, entries a second, what the kernel says of
 * pressure. Pure: times are arguments, and nobody is made to wait here (throttle.h does that). At least one
 * request is always allowed, so work goes on however slow answers are. */
#pragma once

#include "base/macro.h"

/* Requests under way at once: one more as long as answers come about as fast as they do when little is
 * asked, else half as many. */
typedef enum PaceKind {
        PACE_ENTRY,     /* copying up an entry */
        PACE_DIRECTORY, /* listing a directory */
        _PACE_KIND_MAX,
} PaceKind;

typedef struct Aimd {
        unsigned limit, max; /* 1 to max */
        double slower;       /* answers that take so many times as long are a reason to ask for less */
        double base_usec[_PACE_KIND_MAX]; /* the fastest answers, slowly forgotten; 0 unknown */
        double sum;                       /* of answers in terms of the fastest */
        unsigned n;
} Aimd;

void aimd_init(Aimd *a, unsigned start, unsigned max, double slower);
/* An answer took so long. Whether the limit changed. */
bool aimd_observe(Aimd *a, PaceKind kind, uint64_t usec);

/* So many a second, one after the other. */
typedef struct Bucket {
        uint64_t rate; /* UINT64_MAX: any number */
        uint64_t next_usec;
} Bucket;

/* Takes n and returns how long to wait before they may be used; microseconds. */
uint64_t bucket_take(Bucket *b, uint64_t n, uint64_t now_usec);

/* The percentage of the last ten seconds in which tasks waited, from a file of /proc/pressure. -EBADMSG */
int pressure_parse(const char *text, double *ret_percent);
