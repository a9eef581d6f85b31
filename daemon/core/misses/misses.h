/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Counts lookups that find nothing, where they happen: a program in the kernel (misses.bpf.c), at the end of
 * the function of overlayfs that looks up what its cache does not know. It counts by directory, told apart
 * by whether a lower layer was asked. What it has counted is fetched once a second, and only when there is
 * something. Nothing here touches a file of an overlay; what processes of ours look up does not count. */

/* It works, or it is refused: a kernel that has not exactly the function and the structures that the program
 * knows does not get it, so that a count is never wrong. Whoever runs this ends it when no overlay is left,
 * lest the program be in the way of who unloads the module. */
#pragma once

#include "base/failure.h"

typedef struct MissesConfig {
        int control_fd; /* SOCK_SEQPACKET: packets of core/mount/overlay-set.h; its end ends us */
        /* What has been looked up in the directory at path of an overlay since the last time, n_asked of the
         * absent names at the lower layers, n_saved without them. Path "": in the root, or in directories
         * of which the path is not known. Whether this works, each time it changes; busy: it is being found
         * out. Negative returns end us. */
        int (*count)(
                const char *overlay, const char *path, uint64_t n_asked, uint64_t n_saved, void *userdata);
        int (*status)(bool is_busy, uint64_t n_overlays, void *userdata);
        void *userdata;
} MissesConfig;

/* Returns when it is told to, 0. -ENOTSUP, as FAILURE_PRECONDITION: this kernel, or this build, cannot.
 * Blocks. */
int misses_run(const MissesConfig *c, Failure *reterr);
