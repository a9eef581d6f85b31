/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether the overlay reads the data-only layer that stands at a path. Such a layer is never listed, so
 * nothing tells. But the overlay maps its files: the page of a file that is mapped through the overlay and
 * the one of the file that the path leads to are one page of memory if, and only if, they are the same file
 * (/proc/PID/pagemap). Layers that are listed are proof.h's. */
#pragma once

#include "core/context/context.h"
#include "core/lower/lower.h"

/* Whether each data-only layer of l is proved to be that of the running overlay, by a file that has its
 * content there: 0; -EREMCHG if not, or if none was found among the first entries. Reads from the layers. */
int proof_data_layers(const Context *context, const Lower *l);
/* That does not show the order of several, and the directories may have changed places since they were
 * mounted. So the content of a file has to be in one of them only: 0, or -EREMCHG if it is not, or if that
 * does not show because a redirect leads to path. fd: path in the merged view. */
int proof_data_of_file(const Lower *l, const char *path, int fd);
