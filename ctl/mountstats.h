/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the NFS client tells of a mount in /proc/self/mountstats: how often it asked for a name, and how
 * often the answer was an error, as it is for one that is not there. It is about all of the mount, whoever
 * asked: where misses are not counted, it is the only thing there is. */
#pragma once

#include "ctl/record.h"

typedef struct MountStats {
        uint64_t lookups;
        uint64_t errors; /* of these; UINT64_MAX: the kernel does not tell */
} MountStats;

/* Of the mount that path (absolute) lies on. 1; 0: that is no NFS. Reads f to its end. */
int mountstats_find(FILE *f, const char *path, MountStats *ret);
/* Adds nfs_lookups and nfs_lookup_errors to what is known of an overlay, if its misses are not counted and
 * its uppermost lower layer is on NFS. */
void mountstats_add(Record *overlay);
