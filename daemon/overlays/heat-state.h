/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The heat of directories over the daemon's own end. The file is replaced in one step but not synced:
 * losing it costs the time to find out anew. What heat is, and how it decays, is heat.c's; entries of
 * overlays that are not configured any more are left out by whoever loads them. */
#pragma once

#include "overlays/managed.h"

#define HEAT_FILE_NAME "heat"
#define HEAT_SAVE_USEC (120 * USEC_PER_SEC) /* from a change until it is saved, or half as much more */

typedef struct SavedHeat {
        const char *overlay;
        const char *path;     /* relative to the mount point */
        double opens, misses; /* as of usec */
        uint64_t n_opens;
        uint64_t usec; /* realtime */
} SavedHeat;

typedef void (*saved_heat_func)(const SavedHeat *s, void *userdata);

/* Coldest directories are left out. Owned by the caller, NULL on out of memory. */
char *heat_state_format(Managed *const *overlays, size_t n_overlays, uint64_t now_usec);
/* -ENOENT: nothing saved; -EBADMSG: not understood, moved aside; what precedes has been told to func. */
int heat_state_load(const char *state_dir, saved_heat_func func, void *userdata);
