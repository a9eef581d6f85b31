/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A directory from both sides: through the overlay, where it is used, and in the upper layer, where it is
 * identified. What stands in the upper stands at the same path in the overlay. Both are open or neither is;
 * which of the two may be written is not said here. */
#pragma once

#include "base/macro.h"

typedef struct DirectoryPair {
        int fd, upper_fd;
} DirectoryPair;

#define DIRECTORY_PAIR_INIT ((DirectoryPair){ .fd = -EBADF, .upper_fd = -EBADF })
#define _cleanup_pair_ _cleanup_(pair_done)

#define TAKE_PAIR(p) TAKE_AS(p, DIRECTORY_PAIR_INIT)

enum { PAIR_ON_ITS_WAY = -EAGAIN }; /* it is being renamed: to be looked for again later */

void pair_done(DirectoryPair *p);
/* The directory at path below another one; "" opens that anew. *ret stays as it is on failure. */
int pair_open(DirectoryPair below, const char *path, DirectoryPair *ret);
/* The one with this file handle, wherever it stands below the root. -ESTALE: it is gone, or stands outside;
 * PAIR_ON_ITS_WAY. */
int pair_open_handle(DirectoryPair root, const char *handle, DirectoryPair *ret);
/* Makes it (0700, through the overlay) unless it is there, and opens it. */
int pair_make(DirectoryPair below, const char *name, DirectoryPair *ret);
/* Whether it is the one with this file handle. NULL: there is none to compare with, so it counts as that. */
bool pair_is(const DirectoryPair *p, const char *handle);
