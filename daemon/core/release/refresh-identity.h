/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Lower directories that are other ones than the records say, as after a restore: which they are, and how
 * the records learn it. */
#pragma once

#include "core/release/prune.h"

/* Directories of records that a refresh has looked at. All nodes borrowed. */
typedef struct Identities {
        const Node **seen; /* those with an identity of their own */
        size_t n_seen;
        const Node **doubtful; /* those below which something was missing, or could not be looked at */
        size_t n_doubtful;
} Identities;

void identities_done(Identities *i);
int identities_note(Identities *i, const Node *n, bool is_doubtful);
/* Writes what is another identity by now, and not in doubt, into the records. */
int identities_take(const Identities *i, Prune *p);
/* Whether the directory, or one that leads to it, is another one than the record says, and holds something
 * that is recorded. *ret: its identity, owned by the caller. */
bool identity_is_another(const Lower *l, const Node *n, char **ret);
