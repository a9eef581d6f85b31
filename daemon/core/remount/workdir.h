/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Work directories for swapped superblocks. The kernel empties a work directory that it is given
 * (docs/overlayfs.md 7.1), so two superblocks must never share one: each swap makes its own beside the one
 * the overlay was mounted with, NAME.ovlfind-ID, and removes it once no superblock uses it. */

/* Whether a superblock uses it is asked of the kernel: every overlay marks its work directory as in use as
 * long as its superblock lives, also when it is mounted nowhere any more but has open files, and with
 * index=on nobody else gets it (ovl_get_workdir(), EBUSY; docs/overlayfs.md 7.2). No scan of processes or
 * mounts could be as sure. */
#pragma once

#include "core/mount/overlay.h"

/* In a workdir: the superblock is complete and attached beneath the old one, which only has to be
 * detached. */
#define WORKDIR_UNCOVER "ovlfind-uncover"

typedef struct Workdir {
        int parent_fd; /* the directory around it */
        int fd;        /* itself; locked as long as it is open */
        char *name;    /* component */
        char *path;    /* absolute, for the kernel */
} Workdir;

#define WORKDIR_INIT                                                                                        \
        (Workdir) {                                                                                         \
                .parent_fd = -EBADF, .fd = -EBADF,                                                          \
        }

/* Makes an empty one for the overlay, on the file system and mount of its work directory, locked.
 * FAILURE_PRECONDITION when there is no such place. */
int workdir_create(const Overlay *o, Workdir *ret, Failure *reterr);
void workdir_done(Workdir *w);
/* Removes it if it is not used: 1 gone, 0 in use. */
int workdir_remove(const Workdir *w);
/* Opens the one that o runs on. 1; 0 if its work directory is not one of ours; -EWOULDBLOCK: another worker
 * has it. */
int workdir_open_current(const Overlay *o, Workdir *ret);
/* Removes all workdirs of the overlay that no superblock uses and no living worker has. Returns how many.
 */
int workdir_sweep(const Overlay *o);
