/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/upper/raw.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/fs-util.h"
#include "base/str.h"
#include "core/upper/layer.h"

static int set_redirect(int fd, const char *lower) {
        _cleanup_free_ char *value = str_format("/%s", lower);

        if (!value)
                return -ENOMEM;
        return fsetxattr(fd, XATTR_REDIRECT, value, strlen(value), 0) < 0 ? -errno : 0;
}

int raw_make_whiteout(int upper_fd, const char *name) {
        return mknodat(upper_fd, name, S_IFCHR, makedev(0, 0)) < 0 ? -errno : 0;
}

int raw_make_merged(int staging_upper_fd, const char *name, const char *lower) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        if (mkdirat(staging_upper_fd, name, 0700) < 0)
                return -errno;
        fd = open_dir_beneath(staging_upper_fd, name);
        if (fd < 0)
                return fd;
        r = set_redirect(fd, lower);
        return r < 0 ? r : TAKE_FD(fd);
}

int raw_remove_orphan(int upper_fd, const char *name) {
        return unlinkat(upper_fd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

int raw_discard_tree(int staging_upper_fd, const char *name) {
        _cleanup_close_ int fd = open_dir_beneath(staging_upper_fd, name);
        int r = fd < 0 ? fd : dir_empty(fd);

        if (r >= 0 && unlinkat(staging_upper_fd, name, AT_REMOVEDIR) < 0)
                r = -errno;
        return r;
}

static int set_origin_version(int fd, char version) {
        _cleanup_free_ char *value = NULL;
        ssize_t n = xattr_read_fd(fd, XATTR_ORIGIN, &value);
        int r;

        if (n < 0)
                return n == -ENODATA ? 0 : (int) n;
        if (n == 0 || value[0] == version)
                return 0;
        value[0] = version;
        r = xattr_write_fd(fd, XATTR_ORIGIN, value, (size_t) n, XATTR_REPLACE);
        return r < 0 ? r : 1;
}

int raw_detach_origin(int fd) {
        return set_origin_version(fd, ORIGIN_VERSION_DETACHED);
}

int raw_attach_origin(int fd) {
        return set_origin_version(fd, ORIGIN_VERSION);
}
