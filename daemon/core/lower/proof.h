/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The lower layers of a running overlay, found by the overlay itself. A path in a mount table is only what
 * whoever mounted it wrote: it may be mounted over, renamed, or belong to another mount namespace. So no
 * layer is read through such a path. It is proved first to lead to the directory that the kernel reads for
 * the overlay; what cannot be proved is not given out. */

/* How: a fanotify mark is set on what stands at the path, the overlay's root is listed, and the kernel reads
 * the root of each layer for that. Only if it was that very directory that it read, in this thread, is the
 * path the layer (ovl_dir_read_merged(), iterate_dir(); docs/overlayfs.md 8.1). The event brings a
 * descriptor of it on the overlay's own mount of the layer, which has that one's id map, too. */
#pragma once

#include "core/context/context.h"

/* Sets layer_fds[i] to the root of o->lower[i] on the overlay's own mount (O_PATH), and path_fds[i] to what
 * stands at its path: the same directory, on the mount of the path. Both have o->n_lower members and are
 * the caller's to close, also after a failure. FAILURE_LOWER_UNPROVED: that cannot be shown for a layer, and
 * reterr names it; FAILURE_LOWER_UNREACHABLE: the root of a layer gives no answer, or denies it. Asks each
 * layer for the listing of its root, and blocks for as long as it does not answer. */
int proof_open_layers(const Context *context, int *layer_fds, int *path_fds, Failure *reterr);
