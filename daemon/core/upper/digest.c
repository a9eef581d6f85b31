/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/upper/digest.h"

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

uint64_t digest_content(const struct stat *st) {
        const uint64_t fields[] = { (uint64_t) st->st_size, (uint64_t) st->st_mtim.tv_sec,
                                    (uint64_t) st->st_mtim.tv_nsec };

        return ~hash_bytes(fields, sizeof(fields)) | 1;
}

/* They are added up, for each file system lists them in its own order: the hash of a value depends on the
 * name, too, so that two values that change places make a difference. */
static uint64_t digest_one(const char *path, const char *name) {
        char value[LIST_MAX]; /* no value is larger, either */
        ssize_t n = getxattr(path, name, value, sizeof(value));
        const uint64_t parts[] = { hash_bytes(name, strlen(name)),
                                   n > 0 ? hash_bytes(value, (size_t) n) : 0 };

        return hash_bytes(parts, sizeof(parts));
}

static bool has_prefix(const char *name, const char *prefix) {
        return strncmp(name, prefix, strlen(prefix)) == 0;
}

static bool is_compared(const char *name) {
        if (has_prefix(name, "trusted."))
                return !has_prefix(name, "trusted.overlay.") &&
                        !has_prefix(
                                name, "trusted.SGI_ACL_"); /* the second name that xfs has for its ACLs */
        return has_prefix(name, "user.") || has_prefix(name, "system.posix_acl_") ||
                strcmp(name, "security.capability") == 0;
}

uint64_t digest_xattrs(int dfd, const char *name) {
        _cleanup_close_ int fd = open_beneath(dfd, name, O_PATH | O_NOFOLLOW);
        _cleanup_free_ char *names = malloc(LIST_MAX);
        char path[PROC_FD_MAX];
        uint64_t d = DIGEST_NO_XATTRS;
        ssize_t n;

        if (fd < 0 || !names)
                return 0;
        proc_fd_path(path, fd, "");
        n = listxattr(path, names, LIST_MAX);
        if (n < 0 && errno != EOPNOTSUPP)
                return 0;
        for (const char *s = names; s < names + n; s += strlen(s) + 1)
                if (is_compared(s))
                        d += digest_one(path, s);
        return d != 0 ? d : 1;
}

uint64_t digest_directory(int dfd, const char *path) {
        _cleanup_close_ int fd = open_beneath(dfd, path, O_PATH | O_DIRECTORY | O_NOFOLLOW);
        uint64_t xattrs = fd < 0 ? 0 : digest_xattrs(fd, ""), d;
        struct stat st;

        if (xattrs == 0 || fstat(fd, &st) < 0)
                return 0;
        d = hash_bytes((uint64_t[]){ st.st_mode, st.st_uid, st.st_gid, xattrs }, 4 * sizeof(uint64_t));
        return d > BASELINE_IN_TRANSIT ? d : BASELINE_IN_TRANSIT + 1;
}

uint64_t digest_ctime(const struct stat *st) {
        return (uint64_t) st->st_ctim.tv_sec * 1000000000U + (uint64_t) st->st_ctim.tv_nsec;
}
