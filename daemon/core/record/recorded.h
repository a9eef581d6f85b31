/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Finalized directories by their records, wherever they stand now. They are found by file handle, so users
 * may have moved them; one that is merged again, or is in staging, is passed over. Each is looked up once
 * more right before its turn. Only the upper is read. */
#pragma once

#include "core/record/manifest.h"

/* upper_fd: the directory in the upper, borrowed. A negative return ends the walk. */
typedef int (*recorded_func)(const Node *n, const char *path, int upper_fd, void *userdata);
/* layer_fd: the root of the upper layer. Every directory at or below path that has a record with a lower
 * path, and still answers by itself, a directory before what stands below it, or, with children_first,
 * after; whatever record each one is in. */
int recorded_foreach(
        int layer_fd,
        const Records *records,
        const char *path,
        bool children_first,
        recorded_func func,
        void *userdata);
/* The identity of lower directories that says most about the way to a lower path: of the record whose own
 * shares most of it. *ret_known is that record's path. NULL and "" without records. Borrowed. */
const char *records_identity_for(const Records *records, const char *lower, const char **ret_known);
