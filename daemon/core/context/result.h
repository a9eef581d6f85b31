/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an exchange, or the marking of directories, has met: which directories stand in the way, and which of
 * those below them can be tried by themselves. It decides nothing; job/work.c does. Each directory that is
 * left out has a state and a reason. */
#pragma once

#include "base/failure.h"
#include "base/path-util.h"
#include "base/states.h"

/* What work on directories ends in besides errors of calls. */
enum {
        RESULT_BLOCKED = -EUCLEAN, /* directories stand in the way, and say why */
        RESULT_HUNG = -ESHUTDOWN,  /* canceled, but threads hang in the kernel: free nothing of theirs, and
                                      leave by _exit() */
};

/* A directory that cannot be exchanged, and why. */
typedef struct Blocked {
        char *path;           /* relative to the overlay's root */
        DirectoryState state; /* DIRECTORY_EXCLUDED or DIRECTORY_PENDING */
        int error;            /* positive errno of the call that said so, 0 if none did */
        char *reason;
} Blocked;

/* What work on a directory and those below met. */
typedef struct WorkResult {
        Blocked *blocked;
        size_t n_blocked;
        PathList children; /* directories below a blocked one that are not blocked: they can be tried by
                              themselves */
        uint64_t n_entries;
        uint64_t n_directories;
        bool has_merged_child; /* undo: a merged directory was moved in; it must be finalized first */
        bool needs_survey;     /* what it had built could not be removed: a survey's task */
} WorkResult;

void work_result_done(WorkResult *r);
int work_result_block(WorkResult *r, const char *path, DirectoryState state, int error, const char *reason);
/* What it means for a job that nothing but b was asked of. */
FailureKind blocked_kind(const Blocked *b) _pure_;
