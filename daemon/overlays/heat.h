/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How much the directories of an overlay are used: opens and misses in a window that decays, by path. Pure
 * functions of events and times; where the events come from is nobody's business here. A steady N opens per
 * window show as a heat of N; the half-life is window * ln 2. Heat is told in opens: HotMisses= misses are
 * as much as HotOpens= opens, and both add up. */
#pragma once

#include "base/macro.h"

#define HEAT_DIRECTORIES_MAX 16384 /* remembered by one overlay; the coldest are forgotten */

/* What a program that begins to search a directory is taken for, in misses: for each library the loader
 * looks into a few directories below it as well, a shell or an interpreter asks for a few names at least. */
#define HEAT_SEARCH_MISSES 4

/* What has happened in a directory. */
typedef struct Use {
        uint64_t opens, counted; /* so many of the opens make heat */
        uint64_t searches;       /* programs that began to search it */
        uint64_t misses;         /* lookups that found nothing and had to ask a lower layer */
        uint64_t saved;          /* those that were answered without */
} Use;

typedef struct HeatEntry {
        const char *path;                       /* relative to the mount point; borrowed from the table */
        double heat;                            /* as of the time asked for */
        double opens, misses;                   /* what it is made of, each in its own unit */
        double open_rate, miss_rate, save_rate; /* a second, over the last few seconds */
        uint64_t n_opens;                       /* in all, since it was last forgotten */
        /* What came of the last attempt to finalize it by itself. */
        uint64_t not_before_usec; /* realtime; no attempt before that, 0 at any time */
        unsigned n_failures;      /* in a row */
        bool is_refused; /* the last one: what is there, or the room that is left, does not allow it */
} HeatEntry;

typedef struct HeatTable HeatTable;

/* What is left of heat after a time. 0 window: nothing. */
double heat_decay(double heat, uint64_t elapsed_usec, uint64_t window_usec);
#define HEAT_RATE_USEC (5 * USEC_PER_SEC) /* what "a second" looks back to */
/* What is left, a second, of so many in that time. */
double heat_rate(double recent, uint64_t elapsed_usec);
/* Whether a heat, rounded, reaches the threshold. 0 never does: an unused directory is not hot. */
bool heat_is_hot(double heat, uint64_t hot_opens);

HeatTable *heat_table_new(void);
HeatTable *heat_table_free(HeatTable *t);
DEFINE_CLEANUP(HeatTable *, heat_table_free);
/* How many misses are as much as how many opens. */
void heat_table_set_worth(HeatTable *t, uint64_t hot_opens, uint64_t hot_misses);
/* now_usec: realtime; a clock that was set back counts as one that stood still. -ENOMEM. */
int heat_table_add(HeatTable *t, const char *path, const Use *use, uint64_t now_usec, uint64_t window_usec);
/* Puts back what was saved: opens and misses as of usec. */
int heat_table_restore(
        HeatTable *t, const char *path, double opens, double misses, uint64_t n_opens, uint64_t usec);
/* 1 and *ret as of now, 0 when nothing is known of path. */
int heat_table_get(
        const HeatTable *t, const char *path, uint64_t now_usec, uint64_t window_usec, HeatEntry *ret);
/* Of a directory of which nothing was known as well. */
void heat_table_note_failure(HeatTable *t, const char *path, uint64_t not_before_usec, bool is_refused);
void heat_table_forgive(HeatTable *t, const char *path);
/* All may be tried again. */
void heat_table_forgive_all(HeatTable *t);
size_t heat_table_size(const HeatTable *t) _pure_;
/* Forgets what has cooled down to next to nothing, and the coldest beyond max. */
void heat_table_trim(HeatTable *t, size_t max, uint64_t now_usec, uint64_t window_usec);
/* Calls func for the hottest, hottest first, at most `most` (0: all). A negative return ends it and is
 * passed on. func must not change the table, but for failures. */
int heat_table_foreach(
        const HeatTable *t,
        size_t most,
        uint64_t now_usec,
        uint64_t window_usec,
        int (*func)(const HeatEntry *e, void *userdata),
        void *userdata);
