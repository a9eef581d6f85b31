/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/upper/redirect-max.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/fs-util.h"

#define PARAMETERS "/sys/module/overlay/parameters"
#define PARAMETER "redirect_max"
/* One for the machine, as the parameter is. */
#define BEFORE_DIR "/run"
#define BEFORE "ovlfind.redirect_max"
/* Whoever may open a file for reading may lock it, so the parameter itself will not do. */
#define LOCK BEFORE_DIR "/" BEFORE ".lock"

static int open_lock(void) {
        _cleanup_close_ int fd = open(LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        return S_ISREG(st.st_mode) && st.st_uid == 0 && (st.st_mode & 077) == 0 ? TAKE_FD(fd) : -EPERM;
}

static int read_number(const char *directory, const char *name, unsigned long *ret) {
        _cleanup_close_ int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _cleanup_free_ char *text = NULL;
        int r;

        if (fd < 0)
                return -errno;
        r = file_read(fd, name, 64, &text, NULL);
        if (r >= 0)
                *ret = strtoul(text, NULL, 10);
        return r;
}

static int write_limit(unsigned long value) {
        _cleanup_close_ int fd = open(PARAMETERS "/" PARAMETER, O_WRONLY | O_CLOEXEC);
        char text[24];

        if (fd < 0)
                return -errno;
        (void) snprintf(text, sizeof(text), "%lu", value);
        return fd_write_all(fd, text, strlen(text));
}

static int remember(unsigned long value) {
        _cleanup_close_ int fd = open(BEFORE_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        char text[24];

        (void) snprintf(text, sizeof(text), "%lu", value);
        return fd < 0 ? -errno : file_write_atomic(fd, BEFORE, text, strlen(text));
}

/* Under the shared lock: of two who come here at once, both do the same. */
static int raise_limit(void) {
        unsigned long value;
        int r = read_number(PARAMETERS, PARAMETER, &value);

        if (r < 0 || value >= PATH_MAX)
                return r;
        r = remember(value);
        return r < 0 ? r : write_limit(PATH_MAX);
}

int redirect_max_raise(int *hold) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        if (*hold >= 0)
                return 0;
        fd = open_lock();
        if (fd < 0)
                return fd;
        if (flock(fd, LOCK_SH) < 0)
                return -errno;
        r = raise_limit();
        if (r >= 0)
                *hold = TAKE_FD(fd);
        return r;
}

static void restore(int fd) {
        unsigned long before;

        if (flock(fd, LOCK_EX | LOCK_NB) < 0 || read_number(BEFORE_DIR, BEFORE, &before) < 0)
                return; /* others need it still, or nobody had raised it */
        if (write_limit(before) >= 0)
                (void) unlink(BEFORE_DIR "/" BEFORE);
}

void redirect_max_release(int *hold) {
        if (*hold < 0)
                return;
        restore(*hold);
        *hold = fd_close(*hold);
}

void redirect_max_recover(void) {
        _cleanup_close_ int fd = open_lock();

        if (fd >= 0)
                restore(fd);
}
