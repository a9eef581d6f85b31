/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What work on directories tells whoever asked for it: reports, the steps of a plan, counts. Types only:
 * audit.h finds out what a directory is, and the worker passes it on. What a hook is given belongs to its
 * caller, and is valid until the hook returns. */
#pragma once

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

typedef struct Keepers Keepers;

/* Whom a job tells, and what it leaves with him. */
typedef struct WorkHooks {
        int (*report)(const DirectoryReport *r, void *userdata);
        int (*step)(const PlanStep *s, void *userdata);
        void *userdata;
        Keepers *kept; /* old trees somebody stands in; work.h */
} WorkHooks;

typedef struct WorkCounts {
        uint64_t n_entries;     /* in the directories that were exchanged */
        uint64_t n_directories; /* that are in their new state now */
        uint64_t n_excluded;    /* that were left; of a survey: pieces of work that could not be finished */
        bool needs_survey;      /* see WorkResult */
} WorkCounts;
