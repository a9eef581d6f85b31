/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Raw edits of an upper layer: all of them are in undo.c. */
#pragma once

#include "base/macro.h"

/* Removes a tree that an undo was building, on the upper. Only for a tree in staging that was never
 * exchanged and that the overlay refuses to look up (ESTALE: its inode in memory still stands for what the
 * directory was before, facts E.7), so that there is no other way. */
int raw_discard_tree(int staging_upper_fd, const char *name);

/* Removes an entry of an old tree whose lower file is gone: the overlay cannot look it up (EIO), so it has
 * no dentry of it and cannot unlink it either (facts E.7). Only while the inode, which is all there is of
 * it, has another name: -EMLINK if it has not. */
int raw_remove_entry(int upper_dfd, const char *name);
