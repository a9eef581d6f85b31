/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/observe.h"

#include <sys/stat.h>

#include "base/fs-util.h"

int observe_directory(int fd) {
        _cleanup_close_ int own = -EBADF;
        struct stat st;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (st.st_nlink >= 2)
                return OBSERVED_PURE;
        own = open_dir_beneath(fd, ""); /* lseek() moves the offset: not the caller's */
        if (own < 0)
                return own;
        if (lseek(own, 0, SEEK_END) >= 0)
                return OBSERVED_PURE;
        return errno == EINVAL ? OBSERVED_MERGED : -errno;
}

int observe_new_tree(int fd, bool is_undo) {
        int r = observe_directory(fd);

        if (r < 0)
                return r;
        return r == (is_undo ? OBSERVED_MERGED : OBSERVED_PURE) ? 0 : -ESTALE;
}
