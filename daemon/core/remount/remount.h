/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The swap: a new superblock of the same overlay takes the place of the running one, and no path fails for a
 * moment.
 *
 * Until the last step nothing that users see has changed: the new superblock is made, compared and given the
 * child mounts in a mount namespace of our own, then slipped beneath the running mount (MOVE_MOUNT_BENEATH,
 * since Linux 6.5), which covers it. Detaching the running mount uncovers it (docs/overlayfs.md 7.5).
 * Whoever has something open in the old one keeps it. */
#pragma once

#include "core/context/context.h"

/* Where the options to be set come from, and what may be done. Borrowed. */
typedef struct RemountRequest {
        const char *set;      /* "OPTION=VALUE,..." or NULL */
        bool ignore_blockers; /* or wait until they are gone */
        bool may_cover;       /* where the kernel cannot mount beneath: cover the old mount instead */
} RemountRequest;

/* What a swap leaves behind: the old superblock, until nobody has anything open in it. */
typedef struct Drain {
        int root_fd;     /* O_PATH, of the old root; of something else on it, or -EBADF, if that could not be
                          * found again */
        int mount_id;    /* of the old mount */
        dev_t device;    /* of the old superblock */
        char *work;      /* of the old superblock */
        char *name;      /* of the record of it; NULL: none */
        int record_fd;   /* locks that */
        bool is_covered; /* not detached but covered: it goes when it is unmounted */
} Drain;

typedef struct RemountResult {
        Drain *drain;        /* owned by the caller */
        uint64_t pause_usec; /* from the last moment the old one surely answered to the first of the new one
                              */
} RemountResult;

/* A step of what remount_swap() would do: name (static), text. */
typedef int (*remount_step_func)(const char *name, const char *text, void *userdata);

/* Swaps the superblock of context, whose descriptors are of the old one afterwards. 0; FAILURE_PRECONDITION:
 * it cannot be done, FAILURE_BUSY: somebody stands in the way; in all failures the running mount is as it
 * was. Waits for blockers (state waiting) as long as it takes, or until the context is canceled, with no
 * descriptor of the overlay; then -EAGAIN with no failure: whatever was known of the overlay may have
 * changed, begin anew. Blocks on the upper, and on the root of the overlay. */
int remount_swap(Context *context, const RemountRequest *q, RemountResult *ret, Failure *reterr);
/* The steps, or why not; changes nothing. */
int remount_plan(
        Context *context, const RemountRequest *q, remount_step_func step, void *userdata, Failure *reterr);
/* Brings to its end what a killed remount_swap() left. First: detaches an old mount that covers its finished
 * successor. Returns 1 if the mount at the mount point is another one now: load the overlay again. */
int remount_recover(const Overlay *o, Failure *reterr);
/* Then: removes work directories that no superblock uses. */
int remount_sweep(const Overlay *o, Failure *reterr);

Drain *drain_free(Drain *d);
DEFINE_CLEANUP(Drain *, drain_free);
/* The next old superblock of an earlier worker, that nobody waits for any more: 1, or 0. What is known of
 * those that are gone is removed. Blocks on /proc, and on the old superblock. */
int drain_adopt(const Context *context, Drain **ret);
/* Told when it changes: processes that hold the old superblock, and whether it is read-only by now. 0
 * processes: the end. */
typedef void (*drain_func)(
        const Drain *d, unsigned n_processes, const char *who, bool is_read_only, void *userdata);
/* Closes the context's root and waits until the old superblock is gone; makes it read-only as soon as nobody
 * writes through it. -ECANCELED. */
int drain_wait(Context *context, Drain *d, drain_func func, void *userdata);
