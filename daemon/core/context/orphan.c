/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/context/orphan.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "core/mount/reconfigure.h"
#include "core/upper/layer.h"
#include "core/upper/raw.h"

/* On network file systems, an entry that was in use when its lower file went stays in the kernel's cache and
 * says ESTALE, until it is forgotten (ovl_revalidate_real(); docs/overlayfs.md 9.1). */
static int unlink_fresh(int root_fd, int fd, const char *name) {
        int r = unlinkat(fd, name, 0) < 0 ? -errno : 0;

        if (r == -ESTALE && remount_reconfigure(root_fd, NULL) >= 0)
                r = unlinkat(fd, name, 0) < 0 ? -errno : 0;
        return r == -ENOENT ? 0 : r;
}

int orphan_remove(int root_fd, int fd, int upper_fd, const char *name, uint64_t inode) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        struct stat st;
        int r = upper_entry_read(upper_fd, name, &e);

        if (r < 0)
                return errno_is_gone(r) ? 0 : r;
        if (e.class == UPPER_MISSING)
                return 0;
        if (e.inode != inode)
                return -EAGAIN;
        r = unlink_fresh(root_fd, fd, name);
        if (r != -EIO || e.class != UPPER_METACOPY)
                return r == -ESTALE ? -EBUSY : r;
        /* Its lookup fails, so the kernel has no dentry of it (docs/overlayfs.md 3.7). */
        if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) >= 0 || errno != EIO)
                return -EAGAIN;
        return raw_remove_orphan(upper_fd, name);
}

/* Something made over a whiteout and removed again leaves none, since the lower has nothing there. */
static int remove_whiteout(int dfd, const char *name, unsigned char type, void *userdata) {
        const int *fd = userdata;
        struct stat st;

        if (type != DT_CHR || fstatat(dfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_rdev != 0)
                return 0;
        if (mkdirat(*fd, name, 0) < 0 || unlinkat(*fd, name, AT_REMOVEDIR) < 0)
                return -errno;
        return 0;
}

int orphan_remove_directory(int fd, int upper_fd, const char *name) {
        _cleanup_close_ int inner_fd = -EBADF, inner_upper_fd = -EBADF;
        int r;

        if (unlinkat(fd, name, AT_REMOVEDIR) >= 0 || errno == ENOENT)
                return 0;
        if (errno != ENOTEMPTY)
                return -errno;
        inner_fd = open_dir_beneath(fd, name);
        inner_upper_fd = open_dir_beneath(upper_fd, name);
        if (inner_fd < 0 || inner_upper_fd < 0)
                return -ENOTEMPTY;
        r = dir_foreach(inner_upper_fd, remove_whiteout, &inner_fd);
        if (r >= 0 && unlinkat(fd, name, AT_REMOVEDIR) < 0)
                r = -errno;
        return r;
}

typedef struct Parents {
        int root_fd, fd;
} Parents;

static int remove_entry(int upper_fd, const char *name, unsigned char type, void *userdata) {
        const Parents *p = userdata;

        return orphan_remove_tree(p->root_fd, p->fd, upper_fd, name);
}

int orphan_remove_tree(int root_fd, int fd, int upper_fd, const char *name) {
        _cleanup_close_ int inner_fd = -EBADF, inner_upper_fd = -EBADF;
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        int r = upper_entry_read(upper_fd, name, &e);

        if (r < 0 || e.class == UPPER_MISSING || e.class == UPPER_WHITEOUT)
                return errno_is_gone(r) ? 0 : r;
        if (e.type != DT_DIR)
                return orphan_remove(root_fd, fd, upper_fd, name, e.inode);
        inner_fd = open_dir_beneath(fd, name);
        inner_upper_fd = open_dir_beneath(upper_fd, name);
        if (inner_fd < 0 || inner_upper_fd < 0)
                return inner_fd < 0 ? inner_fd : inner_upper_fd;
        r = dir_foreach(inner_upper_fd, remove_entry, &(Parents){ .root_fd = root_fd, .fd = inner_fd });
        return r < 0 ? r : orphan_remove_directory(fd, upper_fd, name);
}
