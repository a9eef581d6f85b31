/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What was set is read back: a directory has all that the other one has, or the caller hears that it has
 * not. */
#include "core/upper/fileattr.h"

#include <sys/ioctl.h>

/* What somebody sets, or what says how names are read. The rest is how a file system stores the inode. */
#define FLAGS_KEPT                                                                                          \
        (FS_SECRM_FL | FS_UNRM_FL | FS_COMPR_FL | FS_SYNC_FL | FS_IMMUTABLE_FL | FS_APPEND_FL |             \
         FS_NODUMP_FL | FS_NOATIME_FL | FS_NOCOMP_FL | FS_ENCRYPT_FL | FS_JOURNAL_DATA_FL | FS_NOTAIL_FL |  \
         FS_DIRSYNC_FL | FS_TOPDIR_FL | FS_NOCOW_FL | FS_DAX_FL | FS_PROJINHERIT_FL | FS_CASEFOLD_FL)
#define XFLAGS_KEPT                                                                                         \
        (FS_XFLAG_IMMUTABLE | FS_XFLAG_APPEND | FS_XFLAG_SYNC | FS_XFLAG_NOATIME | FS_XFLAG_NODUMP |        \
         FS_XFLAG_RTINHERIT | FS_XFLAG_PROJINHERIT | FS_XFLAG_NOSYMLINKS | FS_XFLAG_EXTSIZE |               \
         FS_XFLAG_EXTSZINHERIT | FS_XFLAG_NODEFRAG | FS_XFLAG_FILESTREAM | FS_XFLAG_DAX |                   \
         FS_XFLAG_COWEXTSIZE)
#define FLAGS_FROZEN (FS_IMMUTABLE_FL | FS_APPEND_FL)
#define FLAGS_COPIED_UP (FS_SYNC_FL | FS_NOATIME_FL)

static bool is_unsupported(int error) {
        return error == ENOTTY || error == EOPNOTSUPP || error == EINVAL || error == ENOSYS;
}

int fileattr_get(int fd, FileAttr *ret) {
        FileAttr a = { 0 };

        if ((ioctl(fd, FS_IOC_GETFLAGS, &a.flags) < 0 && !is_unsupported(errno)) ||
            (ioctl(fd, FS_IOC_FSGETXATTR, &a.x) < 0 && !is_unsupported(errno)))
                return -errno;
        *ret = a;
        return 0;
}

bool fileattr_is_frozen(const FileAttr *a) {
        return a->flags & FLAGS_FROZEN || a->x.fsx_xflags & (FS_XFLAG_IMMUTABLE | FS_XFLAG_APPEND);
}

bool fileattr_hands_on_project(const FileAttr *a) {
        return a->flags & FS_PROJINHERIT_FL || a->x.fsx_xflags & FS_XFLAG_PROJINHERIT;
}

static bool has_same_flags(const FileAttr *a, const FileAttr *b) {
        return ((a->flags ^ b->flags) & FLAGS_KEPT) == 0;
}

static bool has_same_extras(const FileAttr *a, const FileAttr *b) {
        return ((a->x.fsx_xflags ^ b->x.fsx_xflags) & XFLAGS_KEPT) == 0 &&
                a->x.fsx_projid == b->x.fsx_projid && a->x.fsx_extsize == b->x.fsx_extsize &&
                a->x.fsx_cowextsize == b->x.fsx_cowextsize;
}

/* Only what differs: a file system that has one of the two is not asked for the other. 1: refused. */
static int set(int fd, const FileAttr *want, const FileAttr *is) {
        unsigned flags = (is->flags & ~FLAGS_KEPT) | (want->flags & FLAGS_KEPT);
        struct fsxattr x = want->x;

        x.fsx_xflags = (is->x.fsx_xflags & ~XFLAGS_KEPT) | (want->x.fsx_xflags & XFLAGS_KEPT);
        if ((!has_same_extras(want, is) && ioctl(fd, FS_IOC_FSSETXATTR, &x) < 0) ||
            (!has_same_flags(want, is) && ioctl(fd, FS_IOC_SETFLAGS, &flags) < 0))
                return is_unsupported(errno) || errno == EPERM ? 1 : -errno;
        return 0;
}

static int set_and_check(int fd, const FileAttr *want) {
        FileAttr is;
        int r = fileattr_get(fd, &is);

        if (r < 0 || (has_same_flags(want, &is) && has_same_extras(want, &is)))
                return r;
        r = set(fd, want, &is);
        if (r == 0)
                r = fileattr_get(fd, &is);
        return r != 0 ? r : !has_same_flags(want, &is) || !has_same_extras(want, &is);
}

int fileattr_copy(int from_fd, int to_fd) {
        FileAttr want;
        int r = fileattr_get(from_fd, &want);

        if (r < 0 || fileattr_is_frozen(&want))
                return r < 0 ? r : 1;
        return set_and_check(to_fd, &want);
}

int fileattr_copy_up(int from_fd, int to_fd) {
        FileAttr from;
        unsigned flags = 0;
        int r = fileattr_get(from_fd, &from);

        if (r < 0 || fileattr_is_frozen(&from))
                return r < 0 ? r : -EPERM;
        if (!(from.flags & FLAGS_COPIED_UP) || ioctl(to_fd, FS_IOC_GETFLAGS, &flags) < 0)
                return 0; /* the kernel goes without, where the upper has no such thing */
        flags |= from.flags & FLAGS_COPIED_UP;
        return ioctl(to_fd, FS_IOC_SETFLAGS, &flags) < 0 && !is_unsupported(errno) ? -errno : 0;
}

int fileattr_hand_on(int from_fd, int dir_fd) {
        FileAttr from = { 0 }, want;
        int r = from_fd >= 0 ? fileattr_get(from_fd, &from) : 0;

        if (r >= 0)
                r = fileattr_get(dir_fd, &want);
        if (r < 0 || (!fileattr_hands_on_project(&from) && !fileattr_hands_on_project(&want)))
                return r;
        want.flags = (want.flags & ~FS_PROJINHERIT_FL) | (from.flags & FS_PROJINHERIT_FL);
        want.x.fsx_xflags =
                (want.x.fsx_xflags & ~FS_XFLAG_PROJINHERIT) | (from.x.fsx_xflags & FS_XFLAG_PROJINHERIT);
        if (fileattr_hands_on_project(&from))
                want.x.fsx_projid = from.x.fsx_projid;
        r = set_and_check(dir_fd, &want);
        return r > 0 ? -EOPNOTSUPP : r;
}
