/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The mark method: directories of a live overlay become finalized where they stand. Every entry is copied up
 * and gets an absolute redirect, then the directory gets opaque=y, on the upper of the running mount. It
 * serves what the exchange cannot: one level instead of a subtree, and directories around something that
 * cannot be exchanged. It does nothing to a directory that somebody uses: that one stays pending, since the
 * kernel would go on with what it has in memory. */

/* Invariant: opaque=y is written only when no inode in memory can hold a stale redirect of an entry; so no
 * later rename or link, by whomever, can write a wrong one. What is written before is valid by itself, and a
 * crash at any instant leaves nothing that has to be repaired. */
#pragma once

#include "core/context/context.h"
#include "core/context/result.h"
#include "core/record/manifest.h"

/* Paths of the directories at path and down to depth levels below it (0: path alone), through the overlay,
 * parents first. What belongs to ovlfind, or to another mount, is left out. Appended to *ret. Blocks on
 * the lower. */
int mark_list(const Context *context, const char *path, uint32_t depth, PathList *ret);

/* Marks these directories (relative to the overlay's root, never the root itself), many with one
 * reconfigure. ret->blocked says which ones were left as they are, and why; the others are marked and, but
 * for somebody who began to use one in the last moment, in effect. What is pure already is skipped. Errors
 * are about all of them: reterr says why, those not marked yet are unchanged. RESULT_HUNG: threads hang in
 * the kernel after a cancel, leave by _exit(). Blocks. */
int mark_run(Context *context, const PathList *paths, WorkResult *ret, Failure *reterr);

/* Takes the mark from a directory of an overlay that nobody else uses (context->options.is_private). What
 * users deleted since stays deleted, as far as the record tells. 1 done, 0 it has no mark. */
int mark_undo(Context *context, const char *path, const Records *records, Failure *reterr);

/* After a crash, or an older program: entries of marked directories that need a lower layer and have a
 * relative redirect, which an opaque directory cannot resolve, get the absolute one. Then the overlay is
 * reconfigured if a marked directory is not in effect. Walks the upper. */
int mark_repair(Context *context, Failure *reterr);
