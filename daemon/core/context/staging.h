/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The root-only directory at the overlay's root in which new trees are built and old ones end: opaque, so
 * what is made there is pure (docs/overlayfs.md 1.8). A piece of work has a directory of its own there,
 * named by its id. What stands in it (docs/architecture.md, "What a crash leaves") says everything a later
 * start must know; see recover.h. */
#pragma once

#include "core/context/context.h"
#include "core/record/tree.h"
#include "core/upper/names.h"

#define STAGING_TREE "tree"
#define STAGING_SNAPSHOT "snapshot"
#define STAGING_SNAPSHOT_LAST "snapshot.last" /* of earlier versions: a newer one */
#define STAGING_REMOVE "remove"
#define STAGING_QUARANTINE "grave"
#define STAGING_KEPT "kept"
#define STAGING_BESIDE "beside"
#define STAGING_REPLACED "replaced" /* may be somebody's: refresh-aside.h */

typedef struct Staging {
        const Context *context; /* borrowed */
        char id[STAGING_ID_LENGTH + 1];
        int base_fd;       /* .ovlfind, through the overlay */
        DirectoryPair dir; /* .ovlfind/ID, locked as long as it is open */
        DirectoryPair quarantine, kept;
        bool is_published; /* the trees were exchanged: what lies in the quarantine may be somebody's */
        char *tree_handle; /* of the tree that is ours to delete; NULL: any, as long as nothing was exchanged
                            */
        atomic_uint next_name; /* in the quarantine and in kept/ */
} Staging;

#define STAGING_INIT                                                                                        \
        (Staging) {                                                                                         \
                .base_fd = -EBADF, .dir = DIRECTORY_PAIR_INIT, .quarantine = DIRECTORY_PAIR_INIT,           \
                .kept = DIRECTORY_PAIR_INIT,                                                                \
        }

/* A random id. */
int staging_new_id(char ret[static STAGING_ID_LENGTH + 1]);
/* Makes a staging directory with a new id. Proves that the upper layer we read is the one the mount writes
 * to: what is made through the overlay must appear there. FAILURE_PRECONDITION otherwise, and when .ovlfind
 * is not ours. */
int staging_create(const Context *context, Staging *ret, Failure *reterr);
/* Opens one that a crash left. -EBUSY: a living worker has it. */
int staging_open(const Context *context, const char *id, Staging *ret, Failure *reterr);
void staging_done(Staging *s);
/* Says which tree may be deleted: the new one that was never published. handle: of its directory in the
 * upper. */
int staging_own_tree(Staging *s, const char *handle);
/* Empties and removes the directory and .ovlfind if nothing else is there. What may be somebody's (a tree
 * that is not the new one, what is left in the quarantine after an exchange) moves to kept/, which is never
 * emptied, and is noted. Returns 1 if something is kept. */
int staging_remove(Staging *s);

/* The snapshot in a staging directory; of earlier versions the newer one if it is whole, else the one that
 * was made durable. -ENOENT: the exchange had not been prepared; -EBADMSG: a disk has lost it. Owned by the
 * caller. */
int staging_read_snapshot(int dir_fd, Tree **ret);
/* The same of any piece of work. */
int staging_read_snapshot_of(const Context *context, const char *id, Tree **ret);
/* Whether there is surely no such piece of work. */
bool staging_is_gone(const Context *context, const char *id);

typedef int (*staging_func)(const char *id, void *userdata);
/* Calls func for the id of each piece of work found. 0 when there is no staging directory. */
int staging_foreach(const Context *context, staging_func func, void *userdata, Failure *reterr);

/* Moves name from dfd to kept/, where its name is ret: 1, 0 if it is gone. Nothing in kept/ is ever deleted;
 * the caller notes what it was. */
int staging_move_to_kept(Staging *s, int dfd, const char *name, char ret[static 16]);
/* A new name for the quarantine or for kept/. */
void staging_new_name(Staging *s, char ret[static 16]);
