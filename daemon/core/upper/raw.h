/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Edits of the upper layer past the overlay: all of them are here. Each needs a reason for which the kernel
 * has nothing in memory that could disagree. The caller has that reason; docs/architecture.md lists who may,
 * under "Invariants". No lower layer is asked. */
#pragma once

#include "base/macro.h"

/* Makes a directory on the upper that is merged with the lower path; in staging, under a name that was never
 * looked up through the overlay. Returns a descriptor of it on the upper. */
int raw_make_merged(int staging_upper_fd, const char *name, const char *lower);
int raw_make_whiteout(int upper_fd, const char *name);
/* Removes a file of which only metadata was copied up, on the upper. Only for one whose lookup through the
 * overlay fails (EIO, as its lower file is gone; docs/overlayfs.md 3.7), so that the kernel has no dentry of
 * it, and whose metadata nobody has changed. */
int raw_remove_orphan(int upper_fd, const char *name);
/* Removes a tree that an undo was building, on the upper. Only for a tree in staging that was never
 * exchanged and that the overlay refuses to look up (ESTALE: its inode in memory still stands for what the
 * directory was before; docs/overlayfs.md 4.1) or to list (the lower denies it), so that there is no other
 * way. */
int raw_discard_tree(int staging_upper_fd, const char *name);
/* Has the kernel take the origin of an entry for unknown, and know it again: one byte of it is another one,
 * so all that it says is kept. fd: of the entry, on the upper; O_PATH is enough. Only for what needs no
 * lower layer and has one name, while the overlay does not have it in memory (docs/overlayfs.md 1.9, 4.8),
 * or for a file of which only metadata is here, which the kernel knows by what its path leads to (9.1). 1:
 * done, 0: it was so, or there is none. */
int raw_detach_origin(int fd);
int raw_attach_origin(int fd);
