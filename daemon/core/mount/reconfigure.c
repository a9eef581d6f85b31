/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/mount/reconfigure.h"

#include <sys/mount.h>
#include <sys/statvfs.h>

/* reconfigure_super() calls shrink_dcache_sb() before anything else (docs/overlayfs.md 6.1), and leaves
 * every flag alone that was not set through the context. Unlike mount -o remount, this knows nothing of the
 * flags of the mount. */
static int reconfigure(int fd, const char *flag) {
        _cleanup_close_ int context = fspick(fd, "", FSPICK_EMPTY_PATH | FSPICK_CLOEXEC);

        if (context < 0)
                return -errno;
        if (flag && fsconfig(context, FSCONFIG_SET_FLAG, flag, NULL, 0) < 0)
                return -errno;
        return fsconfig(context, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0) < 0 ? -errno : 0;
}

static int read_flags(int fd, unsigned long *ret) {
        struct statvfs st;

        if (fstatvfs(fd, &st) < 0)
                return -errno;
        *ret = st.f_flag;
        return 0;
}

int remount_reconfigure(int root_fd, Failure *reterr) {
        unsigned long before = 0, after = 0;
        int r = read_flags(root_fd, &before);

        if (r >= 0)
                r = reconfigure(root_fd, NULL);
        if (r >= 0)
                r = read_flags(root_fd, &after);
        if (r < 0)
                return failure_set_errno(
                        reterr, r, "cannot reconfigure the overlay, so that it forgets what it has cached");
        if (before != after)
                return failure_set(
                        reterr, FAILURE_FAILED, EIO,
                        "the flags of the overlay changed from %#lx to %#lx while it was reconfigured: see "
                        "who remounts it",
                        before, after);
        return 0;
}

int superblock_make_read_only(int root_fd) {
        unsigned long flags = 0;
        int r = read_flags(root_fd, &flags);

        if (r < 0)
                return r;
        if (flags & ST_RDONLY)
                return 0;
        r = reconfigure(root_fd, "ro");
        if (r >= 0)
                r = read_flags(root_fd, &flags);
        if (r < 0)
                return r;
        return flags & ST_RDONLY ? 1 : -EIO;
}
