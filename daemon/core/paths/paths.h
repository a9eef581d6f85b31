/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which directories of overlays programs search: who starts says so, by its environment, by where its
 * interpreter is installed, and by what its executable asks the loader for. None of these directories is
 * opened. The kernel tells when a program is executed (process connector); where it tells nothing, the
 * processes that there are get looked at now and then, and one that lives only shortly is missed. */

/* Environments are private: nothing of them is kept or told but paths of directories that there are on the
 * overlays. A process counts once in its life for a directory. What a path leads to is looked up without
 * opening it (O_PATH), by no more than one lookup in some minutes. */
#pragma once

#include "base/failure.h"

typedef struct PathsConfig {
        char *const *variables; /* further names of variables, patterns of fnmatch(3); NULL-terminated */
        int control_fd;         /* core/mount/overlay-set.h, and "cancel" */
        /* Tell whoever asked; negative returns end it. path is relative to the overlay. */
        int (*use)(const char *overlay, const char *path, uint64_t n_programs, void *userdata);
        /* is_busy: the next one comes within a few seconds, or a file system hangs, that of overlay if that
         * is not NULL. reason: what is missing, "" nothing. */
        int (*status)(bool is_busy, const char *overlay, const char *reason, void *userdata);
        void *userdata;
} PathsConfig;

/* Returns when it is told to, 0. Blocks. */
int paths_run(const PathsConfig *c, Failure *reterr);
