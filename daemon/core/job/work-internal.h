/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between the files of jobs only: work.c (which directories, one after the other), work-mark.c (the part
 * that marks), work-keep.c (old trees that are left), work-survey.c (what a crash left). Whoever runs a job
 * uses work.h. RESULT_HUNG is passed on by all of them: threads hang, and what they use is never freed. */
#pragma once

#include "core/job/work.h"

/* What each job needs to know; path is what it is about. The inner mounts are the context's. */
int work_load(Context *context, const char *path, Records **ret, Failure *reterr);
/* Removes the old tree, or keeps x until that can be done. Takes x; NULL is fine. RESULT_HUNG: threads hang
 * with it. */
int keepers_retire(Keepers *k, Exchange *x);
/* Until something happens in one of the old trees, at most timeout_msec. */
void keepers_wait(const Keepers *k, int timeout_msec);
/* Looks at each once; those that are gone leave the list. RESULT_HUNG: threads hang with one. */
int keepers_look(Context *context, Keepers *k);
/* work_keep(), but for so long at most. */
int work_keep_for(Context *context, Keepers *k, uint64_t usec);

/* A job. */
typedef struct Work {
        Context *context;
        const char *path; /* what was asked for */
        const WorkHooks *hooks;
        WorkCounts counts;
        Records *records;
        PathList todo;
        PathList around; /* directories above blocked ones: what marks can still do */
        Failure failure; /* the first thing that went wrong, but for what keeps the job from its work */
        Failure wait;    /* the first thing that was left out because a lower layer did not answer for it */
        bool may_mark;
        bool is_hung;        /* threads hang in the kernel: what they use must not be freed */
        bool has_moved_away; /* a directory stood elsewhere when it was its turn */
        unsigned n_searches;
} Work;

/* Takes f, of what the job goes on without. */
void work_add_failure(Work *w, Failure *f);
/* Marks these directories, in any order, and reports those that stay as they are; w->failure is the first
 * thing that went wrong, or why w->path is one of them. RESULT_HUNG as mark_run(). */
int work_mark(Work *w, const PathList *paths);
/* The directory that was asked for, and those below as deep as the options say. */
int work_mark_subtree(Work *w);
/* The directories above it but for the root. What becomes of them is reported; it fails nothing. */
int work_mark_parents(Work *w);
/* The steps of the former, for --dry-run. */
int work_mark_plan(Context *context, const char *path, const WorkHooks *hooks, Failure *reterr);
