/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who stands in a directory tree: processes whose working directory, root, program or an open directory lies
 * in it. Found through /proc, so a descriptor in flight or a kernel user is not seen; rmdir() of the tree is
 * the real barrier. */
#pragma once

#include "base/macro.h"

#define STANDING_NAMED 3 /* processes named in a text; the rest is counted */

typedef struct Standing {
        unsigned n;
        char who[256]; /* "1234 (bash, cwd), 99 (ls, fd)", cut after STANDING_NAMED */
} Standing;

/* Looks for processes (all threads) with a link that lies below prefix, an absolute path as the caller sees
 * it, or, if prefix is NULL, that contains component as a path component in any mount namespace. Open
 * regular files do not count: they go on working whatever becomes of their names. Blocks on /proc only. */
int standing_find(const char *prefix, const char *component, Standing *ret);
