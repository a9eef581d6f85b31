/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A directory that is to be marked: where it stands, and why it is left out. Nothing is written. A path is
 * believed only where the inode in the upper is the one that is held; a directory that was moved stays
 * pending. The first reason for leaving it out is the one that is told. */
#include <stdarg.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "base/str.h"
#include "core/context/error-scope.h"
#include "core/mark/mark-internal.h"

void mark_block(MarkDirectory *d, DirectoryState state, const char *format, ...) {
        va_list ap;

        if (d->blocked)
                return;
        va_start(ap, format);
        d->blocked = str_formatv(format, ap);
        va_end(ap);
        d->blocked_state = state;
        d->is_out = true;
}

int mark_error(
        const Mark *m,
        ErrorCall call,
        int r,
        MarkDirectory *d,
        int dfd,
        const char *name,
        const char *what) {
        _cleanup_free_ char *path = path_join(m->context->overlay->mount_point, d->path), *full = NULL,
                            *reason = NULL;

        if ((r == RESULT_BLOCKED && d->blocked) || errno_is_gone(r) ||
            error_scope(m->context, call, r) != SCOPE_ENTRY)
                return r;
        full = path ? path_join(path, name ?: "") : NULL;
        reason = full ? error_reason(r, call, what, full, dfd, name) : NULL;
        if (!reason)
                return -ENOMEM;
        mark_block(d, error_state(r), "%s", reason);
        d->blocked_error = -r;
        return RESULT_BLOCKED;
}

/* Whether the directory still stands at its path in the upper. */
static int is_in_place(const Mark *m, const MarkDirectory *d) {
        _cleanup_close_ int fd = open_dir_beneath(m->context->upper_fd, d->path);

        if (fd < 0)
                return errno_is_gone(fd) ? 0 : fd;
        return fd_is_same(fd, d->upper_fd);
}

int mark_open(const Mark *m, MarkDirectory *d, int *ret_fd) {
        _cleanup_close_ int fd = -EBADF;
        int r = is_in_place(m, d);

        if (r > 0) {
                fd = open_dir_beneath(m->context->root_fd, d->path);
                r = fd < 0 ? (errno_is_gone(fd) || fd == -EXDEV ? 0 : fd) : is_in_place(m, d);
        }
        if (r < 0)
                return r;
        if (r == 0) {
                mark_block(d, DIRECTORY_PENDING, "it was moved or removed while it was prepared; try again");
                return -ESTALE;
        }
        *ret_fd = TAKE_FD(fd);
        return 0;
}
