/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/redirect-max.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "base/fs-util.h"

#define PARAMETERS "/sys/module/overlay/parameters"

static int write_limit(unsigned value) {
        _cleanup_close_ int fd = open(PARAMETERS "/redirect_max", O_WRONLY | O_CLOEXEC);
        char text[16];

        if (fd < 0)
                return -errno;
        (void) snprintf(text, sizeof(text), "%u", value);
        return fd_write_all(fd, text, strlen(text));
}

int redirect_max_raise(unsigned *before) {
        _cleanup_close_ int fd = open(PARAMETERS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _cleanup_free_ char *text = NULL;
        unsigned long value;
        int r;

        if (fd < 0)
                return -errno;
        r = file_read(fd, "redirect_max", 64, &text, NULL);
        if (r < 0)
                return r;
        value = strtoul(text, NULL, 10);
        if (value == 0 || value >= PATH_MAX)
                return 0;
        r = write_limit(PATH_MAX);
        if (r < 0)
                return r;
        if (*before == 0)
                *before = (unsigned) value;
        return 1;
}

void redirect_max_restore(unsigned before) {
        if (before != 0)
                (void) write_limit(before);
}
