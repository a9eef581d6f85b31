/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who stands in a directory tree: processes whose working directory, root, program or an open directory lies
 * in it. Found through /proc, so a descriptor in flight or a kernel user is not seen; rmdir() of the tree is
 * the real barrier. Open regular files do not count: they go on working whatever becomes of their names.
 * Both functions block on /proc only. */
#pragma once

#include "core/mount/overlay.h"
#include "core/users/writers.h"

#define OCCUPANTS_NAMED 3 /* processes named in a text; the rest is counted */

typedef struct Occupants {
        unsigned n_all;
        unsigned n;       /* of these, who was asked for */
        unsigned n_locks; /* of those, who holds a lock on a directory */
        char who[256];    /* "1234 (bash, cwd), 99 (ls, fd)", of those; cut after OCCUPANTS_NAMED */
} Occupants;

/* In the directory at path, relative to the root of the overlay o, in any mount namespace. With writers only
 * those are asked for who are among them where they stand (from a program nobody gets to a name), and who
 * hold a lock on a directory: that goes with the old tree, and excludes nobody who comes by path
 * (docs/overlayfs.md 5.6). */
int occupants_find_in(const Overlay *o, const char *path, Writers *writers, Occupants *ret);
/* Who holds a lock on a directory there. */
int occupants_find_locks(const Overlay *o, const char *path, Occupants *ret);
/* In a tree whose path contains component, in any mount namespace. */
int occupants_find(const char *component, Writers *writers, Occupants *ret);
