/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The lower layers as they are now: what the upper and the records are compared with. Reads only.
 * Everything here asks the lower and may block for as long as it does not answer. "Removed" is decided in
 * one place, lower_is_removed(); what is out of reach is never taken for removed. */
#pragma once

#include <sys/stat.h>

#include "core/context/context.h"

typedef struct LowerView LowerView;

typedef struct Lower {
        int *layer_fds; /* roots of the layers, uppermost first, on the overlay's own mounts of them */
        int *path_fds;  /* the same on the mounts of their paths; negative where only the former is needed */
        bool *has_handles; /* file handles that stay the same */
        size_t n_layers;
        int *data_fds; /* data-only layers */
        size_t n_data;
        int view_fd;     /* root of their merged view, as the kernel sees it: an overlay of their own that is
                            mounted nowhere; of a single plain layer, that */
        LowerView *view; /* of such an overlay: what is known of it */
        bool has_ctime;  /* a change of anything but names changes an entry's ctime */
} Lower;

#define LOWER_INIT                                                                                          \
        (Lower) {                                                                                           \
                .view_fd = -EBADF                                                                           \
        }

/* Opens the lower layers of the running overlay, each of them proved to be one (proof.h): what cannot be
 * proved is not read. Needs CAP_SYS_ADMIN. FAILURE_LOWER_UNPROVED, FAILURE_LOWER_UNREACHABLE. */
int lower_open(const Context *context, Lower *ret, Failure *reterr);
/* The same for a record of what is finalized. A layer that is not proved keeps nobody from that, and is
 * noted, once a job: what depends on the record, refresh and prune, says so then. */
int lower_open_for_record(Context *context, Lower *ret);
/* Of an overlay that is not mounted: by the paths a person has given. */
int lower_open_given(const Context *context, Lower *ret, Failure *reterr);
void lower_done(Lower *l);

/* path is relative to the merged view, "" is its root. 0; -ENOENT only where a parent that could be read
 * says so; any other error means that it is not known whether it exists. */
int lower_stat(const Lower *l, const char *path, struct stat *ret);
/* Whether something that is no directory stands at path, or where a directory led to it: 1, 0, or an error
 * as above. */
int lower_is_replaced(const Lower *l, const char *path);
/* Whether the view shows the owner of path, which is st, as the overlay does: 0, or -EREMCHG, as the mount
 * of a layer's path has another id map than the overlay's. Done by lower_stat() and lower_open_dir(). */
int lower_check_owner(const Lower *l, const char *path, const struct stat *st);
/* Finds out, once, whether the data-only layers are those of the overlay, as long as that is mounted: 0, or
 * -EREMCHG. lower_open_file() asks by itself. */
int lower_prove_data(const Lower *l);
/* Content of a regular file, read-only; flags: O_NOATIME. -EIO, as the kernel says, where the data of a file
 * is in no layer; -EREMCHG where it may be in a layer that is not proved. */
int lower_open_file(const Lower *l, const char *path, int flags);
/* What tells later that nothing of an entry has changed, 0 if nothing does: its file system does not keep
 * it, or the last change is so recent that the next one may get the same time. */
uint64_t lower_ctime(const Lower *l, const struct stat *st);
/* A descriptor of the directory in the merged view; errors as above, -ENOTDIR. */
int lower_open_dir(const Lower *l, const char *path);
/* Whether the file that a copied-up file was copied from (its origin, as overlayfs stores it) still stands
 * at path: 1 yes, 0 another one does, -ENODATA it cannot be told (no handles, or a layer's own redirects).
 */
int lower_is_origin(const Lower *l, const char *path, const char *origin, size_t origin_size);
/* What the layers are and which directories lead to path, as a token without spaces: later, the same
 * directories are known by it. Owned by the caller. */
int lower_identify(const Lower *l, const char *path, char **ret);
/* Names that a directory lists, sorted, with those that a layer has whited out where the kernel lists that
 * layer alone. */
int lower_list(const Lower *l, const char *path, PathList *ret);
/* Whether a layer has a whiteout there. */
bool lower_is_whiteout(const Lower *l, const char *path);
/* Whether path was removed, rather than being out of reach for the moment: each layer is the one of identity
 * (lower_identify() of the path known, then), so is every directory on the way to path that is still there,
 * the last of them is not empty, and it neither has nor lists such a name. 1 removed, 0 it exists, negative
 * with *reterr: that cannot be said.
 */
int lower_is_removed(
        const Lower *l, const char *path, const char *known, const char *identity, Failure *reterr);
