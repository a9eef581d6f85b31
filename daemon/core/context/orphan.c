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

int orphan_remove(int root_fd, DirectoryPair d, const char *name, uint64_t inode) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        struct stat st;
        int r = upper_entry_read(d.upper_fd, name, &e);

        if (r < 0)
                return errno_is_gone(r) ? 0 : r;
        if (e.class == UPPER_MISSING)
                return 0;
        if (e.inode != inode)
                return ORPHAN_REPLACED;
        r = unlink_fresh(root_fd, d.fd, name);
        if (r != -EIO || e.class != UPPER_METACOPY)
                return r == -ESTALE ? -EBUSY : r;
        /* Its lookup fails, so the kernel has no dentry of it (docs/overlayfs.md 3.7). */
        if (fstatat(d.fd, name, &st, AT_SYMLINK_NOFOLLOW) >= 0 || errno != EIO)
                return ORPHAN_REPLACED;
        return raw_remove_orphan(d.upper_fd, name);
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

int orphan_remove_directory(DirectoryPair d, const char *name) {
        _cleanup_pair_ DirectoryPair inner = DIRECTORY_PAIR_INIT;
        int r;

        if (unlinkat(d.fd, name, AT_REMOVEDIR) >= 0 || errno == ENOENT)
                return 0;
        if (errno != ENOTEMPTY)
                return -errno;
        if (pair_open(d, name, &inner) < 0)
                return -ENOTEMPTY;
        r = dir_foreach(inner.upper_fd, remove_whiteout, &inner.fd);
        if (r >= 0 && unlinkat(d.fd, name, AT_REMOVEDIR) < 0)
                r = -errno;
        return r;
}

typedef struct Around {
        int root_fd;
        DirectoryPair dir;
} Around;

static int remove_entry(int upper_fd, const char *name, unsigned char type, void *userdata) {
        const Around *a = userdata;

        return orphan_remove_tree(a->root_fd, a->dir, name);
}

int orphan_remove_tree(int root_fd, DirectoryPair d, const char *name) {
        Around inner = { .root_fd = root_fd };
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        int r = upper_entry_read(d.upper_fd, name, &e);

        if (r < 0 || e.class == UPPER_MISSING || e.class == UPPER_WHITEOUT)
                return errno_is_gone(r) ? 0 : r;
        if (e.type != DT_DIR)
                return orphan_remove(root_fd, d, name, e.inode);
        r = pair_open(d, name, &inner.dir);
        if (r < 0)
                return r;
        r = dir_foreach(inner.dir.upper_fd, remove_entry, &inner);
        pair_done(&inner.dir);
        return r < 0 ? r : orphan_remove_directory(d, name);
}
