/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether a path leads through a symlink. The mount table shows where mounts are in the end, so nothing is
 * ever found at such a path. A symlink is told of rather than followed: what it leads to may hang, it may
 * lead elsewhere tomorrow, and each overlay has one path by which it is known.
 *
 * Only what lies on file systems of local kinds is looked at, up to the first component that does not. */
#pragma once

#include "core/mount/mount-table.h"

/* 1: *ret_link is the part of path that is a symlink, *ret_target what it says; 0: none that can be seen. */
int mount_symlink_find(const MountTable *table, const char *path, char **ret_link, char **ret_target);
