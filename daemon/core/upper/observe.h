/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the running mount does with a directory, found out by looking, not from marks on the upper: does it
 * answer from the upper alone, or merge? Nothing is changed, and no lower layer is asked. Before Linux 6.6
 * not all of it can be seen (observe_can_tell). */
#pragma once

#include <stdbool.h>

#include "base/macro.h"

typedef enum Observed {
        OBSERVED_MERGED,
        OBSERVED_PURE, /* the kernel answers from the upper alone */
} Observed;

/* How the running mount treats an open directory of it. Pure: st_nlink is the upper's, at least 2
 * (ovl_getattr sets 1 for merged ones), or, on file systems that always say 1 (btrfs), lseek(SEEK_END)
 * works, which overlayfs refuses with EINVAL for directories that may hold whiteouts (ovl_dir_llseek), or,
 * for those of them that merge nothing, marked ones, the file handle is the upper's (Linux 6.6; before,
 * these read as merged on btrfs). Not for the root, whose handle always is. docs/overlayfs.md 4.5.
 * Blocks; asks no lower. */
int observe_directory(int fd);
/* Whether that a marked directory reads as merged means that it is. upper_fd: it in the upper. */
bool observe_can_tell(int fd, int upper_fd);
/* The root of a tree just built. 0: it is pure for a finalize, merged for an undo; -ESTALE: it is not. */
int observe_new_tree(int fd, bool is_undo);
