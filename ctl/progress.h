/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Progress of jobs on stderr: one line rewritten in place on a terminal, a plain line every 10 % elsewhere.
 * It knows numbers and a state, no job and no bus. It never says 100 %: the summary does. The clock is an
 * argument. */
#pragma once

#include "base/macro.h"

typedef struct Progress {
        const char *label; /* borrowed, safe for a terminal: "finalizing '/ovl/x'" */
        bool is_interactive;
        unsigned width;
        uint64_t started_usec; /* when the first entry was seen done; 0 before */
        uint64_t drawn_usec;
        unsigned tenth; /* the last 10 % printed */
        bool is_shown;
} Progress;

/* Looks at stderr. quiet: print nothing at all. */
void progress_init(Progress *p, const char *label, bool quiet);
/* state is the word for what goes on now. Draws at most 10 times a second. */
void progress_update(Progress *p, const char *state, uint64_t done, uint64_t total, uint64_t now_usec);
/* Takes the line away, before anything else is printed. */
void progress_clear(Progress *p);

/* "finalizing '/ovl/x': 120/5000 entries, 812/s, 6 s left"; rate and time left from 2 s on. Allocated; NULL
 * on out of memory. */
char *
progress_text(const char *label, const char *state, uint64_t done, uint64_t total, uint64_t elapsed_usec);
