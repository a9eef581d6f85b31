/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The lower layers as they are now: what the upper and the records are compared with. Reads only. Everything
 * here asks the lower and may block for as long as it does not answer. */
#pragma once

#include <sys/stat.h>

#include "core/overlay.h"

typedef struct Lower {
        int *layer_fds; /* roots of the layers, uppermost first */
        size_t n_layers;
        int view_fd;    /* root of their merged view, as the kernel sees it: an overlay of their own that is
                           mounted nowhere; of a single layer, that */
        bool has_ctime; /* a change of anything but names changes an entry's ctime */
} Lower;

#define LOWER_INIT                                                                                          \
        (Lower) {                                                                                           \
                .view_fd = -EBADF                                                                           \
        }

/* Opens the layers of o by their paths; needs CAP_SYS_ADMIN for more than one. FAILURE_LOWER_UNREACHABLE. */
int lower_open(const Overlay *o, Lower *ret, Failure *reterr);
void lower_done(Lower *l);

/* path is relative to the merged view, "" is its root. 0; -ENOENT only where a parent that could be read
 * says so; any other error means that it is not known whether it exists. */
int lower_stat(const Lower *l, const char *path, struct stat *ret);
/* Whether something that is no directory stands at path, or where a directory led to it: 1, 0, or an error
 * as above. */
int lower_is_replaced(const Lower *l, const char *path);
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
/* Whether path was removed, rather than being out of reach for the moment: each layer is the one of identity
 * (lower_identify() of the path known, then), so is every directory on the way to path that is still there,
 * the last of them is not empty, and it has no such name. 1 removed, 0 it exists, negative with *reterr:
 * that cannot be said.
 */
int lower_is_removed(
        const Lower *l, const char *path, const char *known, const char *identity, Failure *reterr);
