/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Changes of a superblock in place, by descriptor. No mount of it changes, and no flag but the one that is
 * asked for. A reconfigure needs CAP_SYS_ADMIN in the user namespace of the superblock (-EPERM). It waits
 * only while it makes the file system read-only, for those who write to it just then. */
#pragma once

#include "base/failure.h"

/* Makes the kernel forget every entry of the overlay that nobody uses, so that the next lookup reads the
 * upper anew: a reconfigure that changes nothing. root_fd is the root of the overlay or anything else on it,
 * O_PATH is enough; it acts on the whole superblock, in all mount namespaces. The flags are read before and
 * after; -EIO if they are not the same. What somebody uses (open files, working directories, watches,
 * mounts) and the directories above stay cached, which is no error. Blocks: about 3 us for each cached
 * entry, with no lookup of the file system held up. */
int remount_reconfigure(int root_fd, Failure *reterr);
/* Makes the superblock read-only, read back. -EBUSY while a file is open for writing, or a removed one is
 * open; 1 if it has become so, 0 if it was. Works when the mount is detached. Forgets unused entries even
 * when it fails (docs/overlayfs.md 6.3). */
int superblock_make_read_only(int root_fd);
