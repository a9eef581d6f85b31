/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between work.c (jobs), work-mark.c (their part that marks) and work-keep.c (what they leave). */
#pragma once

#include "core/work.h"

/* Takes x over, unless it fails. */
int keepers_add(Keepers *k, Exchange *x);
/* work_keep(), but for so long at most. */
int work_keep_for(Site *site, Keepers *k, uint64_t usec);
/* Marks these directories, in any order, and reports those that stay as they are. *ret_target: why target is
 * one of them, if it is. -ESHUTDOWN as mark_run(). */
int work_mark(
        Site *site,
        char **paths,
        size_t n,
        const char *target,
        const WorkHooks *hooks,
        WorkCounts *counts,
        Failure *ret_target,
        Failure *reterr);
/* The directory at path, and those below as deep as the options say. */
int work_mark_subtree(
        Site *site,
        const char *path,
        const WorkHooks *hooks,
        WorkCounts *counts,
        Failure *ret_target,
        Failure *reterr);
/* The directories above path but for the root. What becomes of them is reported; it fails nothing. */
int work_mark_parents(
        Site *site, const char *path, const WorkHooks *hooks, WorkCounts *counts, Failure *reterr);
/* The steps of the former, for --dry-run. */
int work_mark_plan(Site *site, const char *path, const WorkHooks *hooks, Failure *reterr);
