/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An audit of an upper layer against its lower layers and our records: what cannot be resolved, what changed
 * below, what was left behind. Reads only, unless it is to repair; a repair loses nothing, and is made only
 * where it is known what is right. Works on a mounted overlay and on an unmounted one (context->root_fd is
 * then -EBADF). */
#pragma once

#include "base/failure.h"
#include "core/context/context.h"
#include "core/lower/lower.h"
#include "core/record/manifest.h"

typedef enum ProblemKind {
        PROBLEM_RELATIVE_REDIRECT,
        PROBLEM_MISSING_REDIRECT,
        PROBLEM_MALFORMED_REDIRECT,
        PROBLEM_LOWER_MISSING,
        PROBLEM_LOWER_OTHER_TYPE,
        PROBLEM_LOWER_UNKNOWN,
        PROBLEM_SIZE_CHANGED,
        PROBLEM_REPLACED,
        PROBLEM_LOST_DIRECTORY,
        PROBLEM_BAD_OPAQUE,
        PROBLEM_IDLE_WHITEOUT,
        PROBLEM_VISIBLE_WHITEOUT,
        PROBLEM_WRONG_IMPURE,
        PROBLEM_NO_RECORD,
        PROBLEM_IDLE_RECORD,
        PROBLEM_DAMAGED_RECORD,
        PROBLEM_LEFTOVER_STAGING,
        PROBLEM_LEFTOVER_OLD_TREE,
        PROBLEM_LEFTOVER_WORK,
        PROBLEM_UNREADABLE,
        _PROBLEM_KIND_MAX,
} ProblemKind;

/* What a person is told of it; static. */
typedef struct ProblemInfo {
        const char *id;
        const char *consequence;
        const char *cure;
} ProblemInfo;
const ProblemInfo *problem_info(ProblemKind kind) _pure_;

typedef struct Problem {
        ProblemKind kind;
        const char
                *path; /* relative to the overlay's root; of a record or work directory, what it is about */
        const char *detail; /* NULL: the kind says it all */
        bool is_repaired;
} Problem;

/* A negative return ends the audit. */
typedef int (*problem_func)(const Problem *p, void *userdata);

typedef struct Verify {
        Context *context;
        const Records *records; /* NULL: not looked at, as for an overlay that is not configured */
        const Lower *lower;
        const char *path; /* what is looked at; "" is all of it, with records and leftovers */
        bool want_repair;
        problem_func func;
        void *userdata;
        uint64_t n_entries, n_problems, n_repaired; /* results */
} Verify;

/* 0 also when problems were found. -ECANCELED. Blocks: asks the lower for each entry that needs it. */
int verify_run(Verify *v, Failure *reterr);
