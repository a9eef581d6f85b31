/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between work.c (jobs), work-mark.c (their part that marks), work-keep.c (what they leave) and
 * work-survey.c (what a crash left). */
#pragma once

#include "core/job/work.h"

/* What each job needs to know; path is what it is about. The inner mounts are the context's. */
int work_load(Context *context, const char *path, Records **ret, Failure *reterr);
/* Removes the old tree, or keeps x until that can be done. Takes x; NULL is fine. -ESHUTDOWN: threads hang
 * with it. */
int keepers_retire(Keepers *k, Exchange *x);
/* Until something happens in one of the old trees, at most timeout_msec. */
void keepers_wait(const Keepers *k, int timeout_msec);
/* Looks at each once; those that are gone leave the list. -ESHUTDOWN: threads hang with one. */
int keepers_look(Context *context, Keepers *k);
/* work_keep(), but for so long at most. */
int work_keep_for(Context *context, Keepers *k, uint64_t usec);
/* Marks these directories, in any order, and reports those that stay as they are. *ret_target: why target is
 * one of them, if it is. -ESHUTDOWN as mark_run(). */
int work_mark(
        Context *context,
        char **paths,
        size_t n,
        const char *target,
        const WorkHooks *hooks,
        WorkCounts *counts,
        Failure *ret_target,
        Failure *reterr);
/* The directory at path, and those below as deep as the options say. */
int work_mark_subtree(
        Context *context,
        const char *path,
        const WorkHooks *hooks,
        WorkCounts *counts,
        Failure *ret_target,
        Failure *reterr);
/* The directories above path but for the root. What becomes of them is reported; it fails nothing. */
int work_mark_parents(
        Context *context, const char *path, const WorkHooks *hooks, WorkCounts *counts, Failure *reterr);
/* The steps of the former, for --dry-run. */
int work_mark_plan(Context *context, const char *path, const WorkHooks *hooks, Failure *reterr);
