/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/upper/observe.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/fs-util.h"

#ifndef AT_HANDLE_FID
#define AT_HANDLE_FID 0x200 /* Linux 6.5 */
#endif
/* struct ovl_fh of the kernel: three bytes of padding, version, magic, length, flags, … */
#define OVL_FILEID_V1 0xf8
#define OVL_FH_FLAGS 6
#define OVL_FH_FLAG_PATH_UPPER (1 << 2)

static bool get_handle(int fd, int flags, struct file_handle *h) {
        int mount_id;

        h->handle_bytes = MAX_HANDLE_SZ;
        return name_to_handle_at(fd, "", h, &mount_id, AT_EMPTY_PATH | flags) >= 0;
}

/* A handle that need not be opened is the lower's where there is one, else the upper's
 * (ovl_check_encode_origin, Linux 6.6; docs/overlayfs.md 4.5). With nfs_export=on handles can be opened, and
 * are the upper's of merged directories, too. */
static bool has_handle_of_upper(int fd) {
        FileHandle h;

        return !get_handle(fd, 0, &h.handle) && get_handle(fd, AT_HANDLE_FID, &h.handle) &&
                h.handle.handle_type == OVL_FILEID_V1 && h.handle.handle_bytes > OVL_FH_FLAGS &&
                (h.handle.f_handle[OVL_FH_FLAGS] & OVL_FH_FLAG_PATH_UPPER);
}

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
        if (errno != EINVAL)
                return -errno;
        return has_handle_of_upper(own) ? OBSERVED_PURE : OBSERVED_MERGED;
}

bool observe_can_tell(int fd, int upper_fd) {
        struct stat st;
        FileHandle h;

        return (fstat(upper_fd, &st) >= 0 && st.st_nlink >= 2) || get_handle(fd, AT_HANDLE_FID, &h.handle);
}

int observe_new_tree(int fd, bool is_undo) {
        int r = observe_directory(fd);

        if (r < 0)
                return r;
        return r == (is_undo ? OBSERVED_MERGED : OBSERVED_PURE) ? 0 : -ESTALE;
}
