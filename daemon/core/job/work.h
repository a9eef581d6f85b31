/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The jobs: which directories are exchanged, one after the other, so that what was asked for is true at the
 * end or it is known why not. How one directory is exchanged or marked is not known here. "Done" is said of
 * what was seen on the running mount at the end (state/audit.h), never of what was only attempted. */
#pragma once

#include "core/exchange/exchange.h"
#include "core/state/report.h"

/* What a job leaves for later: old trees somebody stands in. */
struct Keepers {
        Exchange **items;
        size_t n;
};

void keepers_done(Keepers *k);

/* path and every directory below it. 0 when path itself is finalized (also when it was before);
 * FAILURE_PRECONDITION or FAILURE_BUSY when it could not be, though directories below it may have been.
 * RESULT_HUNG: threads hang in the kernel after a cancel, leave by _exit(). */
int work_finalize(
        Context *context, const char *path, const WorkHooks *hooks, WorkCounts *ret, Failure *reterr);
/* The finalized directories at or below path become merged again. 0 also when there are none. */
int work_unfinalize(
        Context *context, const char *path, const WorkHooks *hooks, WorkCounts *ret, Failure *reterr);
/* What work_finalize() or work_unfinalize() would do, as steps; changes nothing. */
int work_plan(Context *context, const char *path, bool is_undo, const WorkHooks *hooks, Failure *reterr);
/* Finishes what a crash left, prunes records, reports every finalized directory. Waits two seconds for
 * workers that are about to die. *ret_n_left: pieces of work that could not be finished, or that others than
 * workers of the same daemon still hold. */
int work_survey(Context *context, const WorkHooks *hooks, uint64_t *ret_n_left, Failure *reterr);
/* Looks at each old tree until all are gone. Blocks until then; -ECANCELED, RESULT_HUNG. */
int work_keep(Context *context, Keepers *k);
