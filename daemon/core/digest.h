/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Entries as short numbers, to tell later whether the lower or a user has changed something. 0 is never the
 * digest of anything. */
#pragma once

#include <stdint.h>
#include <sys/stat.h>

#include "base/macro.h"

/* Size, type and mode, owner, device number, modification time in whole seconds (some upper file systems
 * keep no more). */
uint64_t digest_stat(const struct stat *st) _pure_;
/* All xattrs but those of overlayfs itself; 0 where they cannot be read. A file system that knows none has
 * an empty set. */
uint64_t digest_xattrs(int dfd, const char *name);
