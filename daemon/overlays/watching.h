/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The watcher of an overlay: a worker process that lives as long as the overlay is there and tells how much
 * its directories are used. It is the only one to ask for inotify events, and may hang like any other
 * worker: then it is told, killed, and replaced some time later. */
#pragma once

#include "process/proc.h"

typedef struct Managed Managed;

typedef enum WatchingState {
        WATCHING_OFF,      /* the overlay is not there, or MaxWatches=0 */
        WATCHING_STARTING, /* has not gone through all directories yet */
        WATCHING_ON,
        WATCHING_PARTLY,  /* the reason says what is missing */
        WATCHING_STALLED, /* it hangs or died, and will be replaced */
        _WATCHING_STATE_MAX,
} WatchingState;

typedef struct Watching {
        Managed *overlay;
        Proc *proc;
        sd_event_source *timer; /* patience with one that walks, or the pause before the next one */
        uint64_t pause_usec;
        WatchingState state;
        char *reason; /* NULL without one */
        uint64_t n_known, n_watches;
} Watching;

const char *watching_state_to_string(WatchingState s) _pure_;
void watching_done(Watching *w);
/* Starts or ends the watcher, as the overlay's state and configuration want it. */
void watching_update(Watching *w);
/* Starts it anew: what it is to look for has changed. */
void watching_restart(Watching *w);
/* Directories have been replaced under its watches: those at path (relative) and below, or with NULL all of
 * them, because the superblock is another one or has been reconfigured. */
void watching_rearm(Watching *w, const char *path);
/* Nothing at path or below is watched until that is rearmed: marks cannot be set on what is watched. Nor
 * are, with_parents, the directories above and what is in them. */
void watching_rest(const Watching *w, const char *path, bool with_parents);
/* A worker begins, or has ended, to look at the directories at path, below it and above it: that it lists
 * them is not use. */
void watching_look(const Watching *w, const char *path, bool begins);
