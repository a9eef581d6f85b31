/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The jobs: which directories are exchanged, one after the other, so that what was asked for is true at the
 * end or it is known why not. */
#pragma once

#include "core/exchange/exchange.h"
#include "core/state/audit.h"

/* A step of a plan, for --dry-run. */
typedef struct PlanStep {
        const char *name; /* static: "exchange", "exclude", ... */
        const char *path; /* relative to the overlay's root */
        const char *text; /* what it does, or why not */
        uint64_t n_entries;
        uint64_t bytes; /* space it takes in the upper, estimated upwards, as are inodes */
        uint64_t n_inodes;
} PlanStep;

typedef struct WorkHooks {
        int (*report)(const DirectoryReport *r, void *userdata);
        int (*step)(const PlanStep *s, void *userdata);
        void *userdata;
} WorkHooks;

/* What a job leaves for later: old trees somebody stands in. */
typedef struct Keepers {
        Exchange **items;
        size_t n;
} Keepers;

void keepers_done(Keepers *k);

typedef struct WorkCounts {
        uint64_t n_entries;     /* in the directories that were exchanged */
        uint64_t n_directories; /* that are in their new state now */
        uint64_t n_excluded;    /* that were left; of a survey: pieces of work that could not be finished */
        bool has_left;          /* a survey is to follow, see ExchangeResult */
} WorkCounts;

/* path and every directory below it. 0 when path itself is finalized (also when it was before);
 * FAILURE_PRECONDITION or FAILURE_BUSY when it could not be, though directories below it may have been.
 * -ESHUTDOWN: threads hang in the kernel after a cancel, leave by _exit(). */
int work_finalize(
        Site *site,
        const char *path,
        const WorkHooks *hooks,
        Keepers *ret_kept,
        WorkCounts *ret,
        Failure *reterr);
/* The finalized directories at or below path become merged again. 0 also when there are none. */
int work_unfinalize(
        Site *site,
        const char *path,
        const WorkHooks *hooks,
        Keepers *ret_kept,
        WorkCounts *ret,
        Failure *reterr);
/* What work_finalize() or work_unfinalize() would do, as steps; changes nothing. */
int work_plan(Site *site, const char *path, bool is_undo, const WorkHooks *hooks, Failure *reterr);
/* Finishes what a crash left, prunes records, reports every finalized directory. Waits two seconds for
 * workers that are about to die. *ret_n_left: pieces of work that could not be finished, or that others than
 * workers of the same daemon still hold. */
int work_survey(
        Site *site, const WorkHooks *hooks, Keepers *ret_kept, uint64_t *ret_n_left, Failure *reterr);
/* Looks at each old tree until all are gone. Blocks until then; -ECANCELED, -ESHUTDOWN. */
int work_keep(Site *site, Keepers *k);
