/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who holds open what stood in a directory before it was finalized: an undo has to wait for him. It is found
 * in /proc, by the path of the old tree, and by the record with that path's id. It waits for nobody. Where
 * there is no such record nothing is found, and the kernel's own refusal remains (ESTALE). */

/* The kernel knows the inode of a merged directory by its lower directory, and lets no second one be merged
 * with that as long as the first is in memory: ESTALE (ovl_get_inode(), ovl_verify_inode();
 * docs/overlayfs.md 4.1). An open or mapped file keeps the directories that it was opened in there, removed
 * ones as well. So an undo has to wait for those who opened something before the exchange. /proc shows them
 * by the path of the old tree. */
#pragma once

#include "base/failure.h"
#include "core/context/context.h"
#include "core/record/tree.h"

/* The records of trees that were asked for. */
typedef struct HeldTrees {
        int records_fd; /* borrowed */
        Tree **items;
        size_t n;
} HeldTrees;

void held_trees_done(HeldTrees *t);
/* Of what a blocker has open (its path, as blockers_find() says), if that was in a tree that is recorded:
 * the path it had in the overlay when it was finalized, and the lower path of the deepest directory that it
 * keeps in memory. 1; 0 if it was not, or nothing is known. Owned by the caller. */
int held_resolve(HeldTrees *t, const char *blocker_path, char **ret_path, char **ret_lower);

/* Whether an undo of the directory at path, merged with lower before, can be built as far as /proc tells:
 * 0, or -FAILURE_ERROR_HELD with a failure that names who holds what it was. */
int held_check(const Context *context, const char *path, const char *lower, Failure *reterr);
/* After the kernel has refused: a failure that names whom /proc shows to hold anything of old trees, or
 * to have a socket there: its name is in the tree that it was bound in, and nothing tells which that is. */
int held_explain(const Context *context, const char *path, Failure *reterr);
