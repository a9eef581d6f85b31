/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Raw edits of staging on the upper layer: all of them are in undo.c. */
#pragma once

#include "base/macro.h"

/* Removes a tree that an undo was building, on the upper. Only for a tree in staging that was never
 * exchanged and that the overlay refuses to look up (ESTALE: its inode in memory still stands for what the
 * directory was before, facts E.7), so that there is no other way. */
int raw_discard_tree(int staging_upper_fd, const char *name);
