/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/digest.h"

#include <fcntl.h>
#include <string.h>
#include <sys/xattr.h>

#include "base/fs-util.h"
#include "base/hash.h"

#define LIST_MAX 65536 /* XATTR_LIST_MAX of linux/limits.h */

uint64_t digest_stat(const struct stat *st) {
        const uint64_t fields[] = {
                (uint64_t) st->st_size,       st->st_mode, st->st_uid, st->st_gid, st->st_rdev,
                (uint64_t) st->st_mtim.tv_sec
        };
        uint64_t d = hash_bytes(fields, sizeof(fields));

        return d != 0 ? d : 1;
}

/* Independent of the order in which the file system lists them. */
static uint64_t digest_one(const char *path, const char *name) {
        char value[LIST_MAX]; /* no value is larger, either */
        ssize_t n = getxattr(path, name, value, sizeof(value));

        return hash_bytes(name, strlen(name)) * 31 + (n > 0 ? hash_bytes(value, (size_t) n) : 0);
}

/* Overlayfs's own, and the second name that xfs has for its ACLs. */
static bool is_private(const char *name) {
        return strncmp(name, "trusted.overlay.", strlen("trusted.overlay.")) == 0 ||
                strncmp(name, "trusted.SGI_ACL_", strlen("trusted.SGI_ACL_")) == 0;
}

uint64_t digest_xattrs(int dfd, const char *name) {
        _cleanup_close_ int fd = open_beneath(dfd, name, O_PATH | O_NOFOLLOW);
        _cleanup_free_ char *names = malloc(LIST_MAX);
        char path[sizeof("/proc/self/fd/") + 10];
        uint64_t d = 1;
        ssize_t n;

        if (fd < 0 || !names)
                return 0;
        (void) snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        n = listxattr(path, names, LIST_MAX);
        if (n < 0 && errno != EOPNOTSUPP)
                return 0;
        for (const char *s = names; s < names + n; s += strlen(s) + 1)
                if (!is_private(s))
                        d += digest_one(path, s);
        return d != 0 ? d : 1;
}
