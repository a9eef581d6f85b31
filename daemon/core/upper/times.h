/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Keeps the modification time of a directory in which something of ours comes or goes, so that its users
 * notice nothing: begin, change names, end. The time is put back only if no name but ours changed in between
 * (seen by inotify). docs/overlayfs.md 3.3, 5.8. */
#pragma once

#include <sys/stat.h>

#include "base/macro.h"

typedef struct TimesGuard {
        int dir_fd; /* borrowed */
        int inotify_fd;
        struct timespec before;
} TimesGuard;

/* Never fails: where no watch can be had, the time is simply not put back. */
void times_guard_begin(TimesGuard *g, int dir_fd);
/* names: NULL-terminated, the ones that are ours. */
void times_guard_end(TimesGuard *g, const char *const *names);
