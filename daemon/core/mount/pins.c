/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/mount/pins.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/fanotify.h>

#include "core/mount/reconfigure.h"

#define MARK_FLAGS (FAN_MARK_DONT_FOLLOW | FAN_MARK_IGNORED_MASK)
/* Reconfigures until what is left counts as used. */
#define MAX_TRIES 5
#define TRY_PAUSE_MSEC 10

int pins_open(void) {
        int fd = fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_UNLIMITED_MARKS, O_RDONLY);

        return fd < 0 ? -errno : fd;
}

static int conclude(int result) {
        if (result >= 0)
                return 1;
        return errno == ENOENT || errno == ENOTDIR || errno == ESTALE ? 0 : -errno;
}

int pin_set(int pins_fd, int dfd, const char *name) {
        unsigned flags = FAN_MARK_ADD | FAN_MARK_EVICTABLE | FAN_MARK_IGNORED_SURV_MODIFY | MARK_FLAGS;

        return conclude(fanotify_mark(pins_fd, flags, FAN_OPEN, dfd, name));
}

int pin_take(int pins_fd, int dfd, const char *name) {
        return conclude(fanotify_mark(pins_fd, FAN_MARK_REMOVE | MARK_FLAGS, FAN_OPEN, dfd, name));
}

/* From our own fdinfo: looking the entries up would load them anew. */
static int count_left(int pins_fd) {
        _cleanup_fclose_ FILE *f = NULL;
        _cleanup_free_ char *line = NULL;
        char path[sizeof("/proc/self/fdinfo/") + 10];
        size_t size = 0;
        int n = 0;

        (void) snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pins_fd);
        f = fopen(path, "re");
        if (!f)
                return -errno;
        while (getline(&line, &size, f) >= 0)
                n += strncmp(line, "fanotify ino:", strlen("fanotify ino:")) == 0;
        return feof(f) ? n : -EIO; /* or there was no memory for a line */
}

int pins_forget_unused(int pins_fd, int root_fd, Failure *reterr) {
        int r = 1;

        for (unsigned i = 0; r > 0 && i < MAX_TRIES; i++) {
                if (i > 0)
                        (void) poll(NULL, 0, TRY_PAUSE_MSEC << i);
                r = remount_reconfigure(root_fd, reterr);
                if (r >= 0)
                        r = count_left(pins_fd);
        }
        return r;
}
