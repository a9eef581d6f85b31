/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which inodes of an overlay somebody holds, by an open file, a mapping, a watch or a lookup that is under
 * way: fanotify marks that match no event and go with their inode (FAN_MARK_EVICTABLE, Linux 5.19;
 * docs/overlayfs.md 6.2). Those that are left after a reconfigure are on inodes that are held. A mark does
 * not hold its inode, and its descriptor is the only thing to be closed. */
#pragma once

#include "base/failure.h"

/* A descriptor to put marks on, or an error. */
int pins_open(void);
/* Marks name in dfd, on the overlay; a symlink itself. 1: done, 0: it is not there any more. -EINVAL: a
 * kernel without such marks. */
int pin_set(int pins_fd, int dfd, const char *name);
/* Takes the mark away. 1: it was there, so the inode has been in memory ever since; 0: it was not. Looks the
 * name up, so it is in memory now. */
int pin_take(int pins_fd, int dfd, const char *name);
/* Has the kernel forget what nobody holds, several times, since most uses last as long as a system call.
 * Returns how many marks are left. root_fd: on the overlay. */
int pins_forget_unused(int pins_fd, int root_fd, Failure *reterr);
