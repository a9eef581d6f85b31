/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Watches the directories of an overlay that match patterns, by inotify, and tells how often each is opened
 * or has a file in it opened. Reads are not counted: a program that reads a large file asks for names no
 * more often. No descriptor of the overlay is held between steps, so that it can be unmounted. Counts are
 * lower bounds: the kernel makes one event of it when the same file is opened again and again before we
 * look. Which opens count as use: watcher-opens.c. */

/* It walks to find the directories: breadth first, one request at a time, with pauses so that it takes a
 * small part of the time; again from time to time, because a change of a lower layer raises no event. When
 * nothing happens it sleeps for longer and longer. */
#pragma once

#include "base/failure.h"
#include "core/mount/overlay.h"

typedef struct WatcherStatus {
        bool is_busy;       /* walking: the next status comes within a few seconds, or a file system hangs */
        uint64_t n_known;   /* directories that match */
        uint64_t n_watches; /* of them and of directories on the way to them */
        uint64_t n_left_out; /* directories without a watch, for want of one */
        uint64_t n_overflows;
        const char *reason; /* why watching is not complete; NULL if it is */
} WatcherStatus;

typedef struct WatcherConfig {
        const Overlay *overlay;
        char *const *directories; /* NULL-terminated, glob.h; none: all */
        char *const *exclude;
        uint64_t max_watches;
        uint64_t window_usec; /* see watch_opens_count() */
        int control_fd;       /* SOCK_SEQPACKET: "cancel" or its end ends the watcher; "rearm" tells that all
                                 watches may be dead; "pause PATH" that a job works at PATH, "pause-parents PATH"
                                 that it marks the directories above as well, "resume PATH" that it has ended and
                                 the directories there may be other ones; "look PATH" and
                                 "looked PATH" that another process of ours lists directories there */
        /* Tell whoever asked; negative returns end the watcher. */
        int (*heat)(const char *path, uint64_t n_opens, uint64_t n_counted, void *userdata);
        int (*status)(const WatcherStatus *s, void *userdata);
        void *userdata;
} WatcherConfig;

/* Returns when it is told to, 0, or when the overlay is not there any more. Blocks. */
int watcher_run(const WatcherConfig *c, Failure *reterr);
