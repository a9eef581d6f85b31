/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/upper/directory-pair.h"

#include <string.h>

#include "base/fs-util.h"

void pair_done(DirectoryPair *p) {
        (void) fd_close(p->fd);
        (void) fd_close(p->upper_fd);
        *p = DIRECTORY_PAIR_INIT;
}

int pair_open(DirectoryPair below, const char *path, DirectoryPair *ret) {
        _cleanup_pair_ DirectoryPair p = { .fd = open_dir_beneath(below.fd, path), .upper_fd = -EBADF };

        if (p.fd < 0)
                return p.fd;
        p.upper_fd = open_dir_beneath(below.upper_fd, path);
        if (p.upper_fd < 0)
                return p.upper_fd;
        *ret = TAKE_PAIR(p);
        return 0;
}

int pair_open_handle(DirectoryPair root, const char *handle, DirectoryPair *ret) {
        _cleanup_pair_ DirectoryPair p = DIRECTORY_PAIR_INIT;
        _cleanup_close_ int at = -EBADF;
        _cleanup_free_ char *path = NULL;

        at = handle ? file_handle_open(root.upper_fd, handle, &path) : -ESTALE;
        if (at < 0)
                return at == -ENOENT || at == -EXDEV ? -ESTALE : at;
        if (pair_open(root, path, &p) < 0 || !pair_is(&p, handle))
                return PAIR_ON_ITS_WAY;
        *ret = TAKE_PAIR(p);
        return 0;
}

int pair_make(DirectoryPair below, const char *name, DirectoryPair *ret) {
        if (mkdirat(below.fd, name, 0700) < 0 && errno != EEXIST)
                return -errno;
        return pair_open(below, name, ret);
}

bool pair_is(const DirectoryPair *p, const char *handle) {
        _cleanup_free_ char *found = NULL;

        return !handle || (file_handle_at(p->upper_fd, "", &found) >= 0 && strcmp(found, handle) == 0);
}
