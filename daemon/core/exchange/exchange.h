/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The exchange method: a directory of a live overlay is replaced, in one rename, by a tree that was built
 * beside it. To finalize, the new tree is pure upper; to undo, it is a fresh merged view. It takes one
 * directory and knows no job. What cannot be exchanged is left as it is, with a reason. */

/* Invariant: at every instant each path leads to the right entry, and a crash at any instant leaves a state
 * that recover.h brings to an end. docs/architecture.md, "The exchange", has the steps. */
#pragma once

#include "core/context/context.h"
#include "core/context/result.h"
#include "core/record/manifest.h"

typedef struct Exchange Exchange;

/* The steps of an exchange, in order; the last one, removing the old tree, is exchange_retire(). */
typedef struct ExchangeStep {
        const char *name;
        const char *text;  /* NULL: standing_describe() */
        const char *doing; /* for context_doing() */
        int (*func)(Exchange *x, Failure *reterr);
} ExchangeStep;

extern const ExchangeStep exchange_steps[];
extern const size_t n_exchange_steps;
/* What the step "stand" does under a policy. */
const char *standing_describe(StandingPolicy policy) _pure_;

/* Replaces the directory at path (relative to the overlay's root, not the root itself). records: of this
 * overlay, borrowed.
 *
 * 0: it is in effect; *ret_kept is NULL, or an exchange whose old tree stays for processes standing in it:
 * pass it to exchange_retire(). RESULT_BLOCKED: ret->blocked says which directories stand in the way;
 * nothing was changed. Other errors: reterr says why, nothing was changed (FAILURE_BUSY: not quiet, or
 * changed all the time). */
int exchange_run(
        Context *context,
        const char *path,
        bool is_undo,
        const Records *records,
        WorkResult *ret,
        Exchange **ret_kept,
        Failure *reterr);

/* Takes over what happened in the old tree, and removes it if nobody stands in it. 1 removed, 0 somebody
 * does: try again when exchange_watch_fd() is readable, and from time to time. Errors are noted once; trying
 * again may help. RESULT_HUNG: threads hang in the kernel after a cancel, x must not be freed. Blocks. */
int exchange_retire(Exchange *x);
/* Becomes readable when something happens in the old tree. */
int exchange_watch_fd(const Exchange *x) _pure_;
const char *exchange_path(const Exchange *x) _pure_;
const char *exchange_id(const Exchange *x) _pure_;
Exchange *exchange_free(Exchange *x);
DEFINE_CLEANUP(Exchange *, exchange_free);
