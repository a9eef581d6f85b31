/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between the files remount*.c and drain*.c only: the parts of a swap, by the file that has each of them.
 * Others use remount.h. Before the new superblock takes the running one's place nothing changes that users
 * see; afterwards the way is forward only, see remount-recover.c. */
#pragma once

#include "core/mount/mount-table.h"
#include "core/mount/overlay-options.h"
#include "core/remount/remount.h"
#include "core/remount/workdir.h"

#ifndef MOVE_MOUNT_BENEATH
#define MOVE_MOUNT_BENEATH 0x00000200
#endif

/* Of the overlay's root, for the moment of a proof. */
#define MARK_XATTR "trusted.ovlfind.swap"

/* A new superblock and what is known of it. */
typedef struct Successor {
        const Overlay *old;
        OverlayOptions options;
        Workdir workdir;
        int mount_fd; /* the tree of mounts that is to be attached: the overlay, and what is mounted in it */
} Successor;

/* remount-check.c. */
bool kernel_mounts_beneath(void);
/* All that must hold, and the options for the new superblock. */
int remount_check(Context *context, const RemountRequest *q, OverlayOptions *ret, Failure *reterr);
/* Whether the paths of the lower layers lead to what the overlay reads, with the owners that it shows. */
int remount_check_lower(const Context *context, Failure *reterr);
/* 0: nobody uses the overlay in a way that a swap would cut apart. -EAGAIN: somebody did, and does no
 * longer; the context has been let go of. */
int remount_wait_for_blockers(Context *context, Failure *reterr);

/* drain.c. */
Drain *drain_new(void);
/* drain-record.c. So that another worker can wait for d if this one does not get to the end. */
int drain_record(const Context *context, Drain *d);
void drain_forget(const Context *context, Drain *d);

/* remount.c. Detaches the topmost mount; root_fd is its root. */
int mount_detach_top(int root_fd);

/* remount-superblock.c. The mount attributes for flags as the mount table shows them; -EOPNOTSUPP for one
 * that is not known. */
int mount_attributes(const char *vfs_options, uint64_t *ret);
/* A new superblock with the layers of o, the options and the work directory; a descriptor of its mount, not
 * attached anywhere. It acts with our credentials from then on (docs/overlayfs.md 7.9). */
int superblock_create(const Overlay *o, const OverlayOptions *l, const char *work, Failure *reterr);

/* remount-rehearse.c. In a mount namespace of its own: attaches the mount, compares its options, adds copies
 * of the mounts that stand in the old one, compares those. Returns a descriptor of the whole, detached
 * again. */
int remount_rehearse(const Overlay *old, const OverlayOptions *l, int mount_fd, Failure *reterr);

/* remount-child-mounts.c. Both tables or the same; ids of the mounts. Whether what is mounted below one is
 * mounted below the other in the same way: 1, 0. */
bool child_mounts_same(const MountTable *a, int id_a, const MountTable *b, int id_b);
/* Clones each mount that stands directly on old_fd's mount, with all below, onto the same place of new_fd's.
 */
int child_mounts_copy(const MountTable *t, int old_id, int old_fd, int new_fd, Failure *reterr);
/* Detaches what stands in new_fd's mount, which is in the table, but for the mount old_id. */
int child_mounts_drop(const MountTable *t, int old_id, int new_fd, Failure *reterr);
/* Gives new_fd's mount and what stands in it the propagation that old_id and what stood in it had in before.
 * The first error. */
int mounts_copy_propagation(const MountTable *before, int old_id, int new_fd);
/* Which mounts stand in the overlay that cannot be copied; 0 or a failure. */
int child_mounts_check(const MountTable *t, const Overlay *o, Failure *reterr);
/* The id of the mount a descriptor is of. */
int fd_mount_id(int fd);
