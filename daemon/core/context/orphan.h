/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The end of entries that stand for something that was removed from the lower. Whether it was removed is the
 * caller's to prove. An entry goes only if it is still the inode that was judged; it goes through the
 * overlay where that can look it up, else on the upper, where the kernel has no dentry of it
 * (docs/overlayfs.md 3.7). */
#pragma once

#include "core/upper/directory-pair.h"

enum { ORPHAN_REPLACED = -EAGAIN }; /* something else answers under its name by now */

/* Removes the entry if it is still the one with this inode in the upper: through the overlay, or, where that
 * cannot look it up any more (EIO), on the upper. 0, also when it is gone; ORPHAN_REPLACED, or -EBUSY:
 * somebody uses it, and the kernel does not let go of it. root_fd: the overlay's root. */
int orphan_remove(int root_fd, DirectoryPair d, const char *name, uint64_t inode);
/* The same for what is nobody's: a directory of which the caller has seen that, with all it holds, or any
 * other entry. */
int orphan_remove_tree(int root_fd, DirectoryPair d, const char *name);
/* Removes a directory in which nothing is left but whiteouts. -ENOTEMPTY. */
int orphan_remove_directory(DirectoryPair d, const char *name);
