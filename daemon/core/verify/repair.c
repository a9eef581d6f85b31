/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Repairs of entries of an upper layer. It does not find out what is right: the caller has proved that. Each
 * repair is one step that is there or not, and takes away nothing but a whiteout that hides nothing. */

/* Marks are written raw, also below a live overlay: an entry that the kernel cannot resolve has no dentry (a
 * failed lookup is not cached), so there is nothing in memory that could disagree; one that it resolves to
 * an empty directory is found again as soon as that is evicted. A whiteout may have a dentry, which the
 * kernel trusts (docs/overlayfs.md 4.4): it would answer ESTALE to whoever makes something of that name. So
 * it goes through the overlay. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/fs-util.h"
#include "core/verify/verify-internal.h"

int repair_redirect(const VerifyEntry *x, const char *value) {
        _cleanup_close_ int fd = open_beneath(x->dir->upper_fd, x->name, O_PATH | O_NOFOLLOW);
        _cleanup_(upper_entry_done) UpperEntry now = { 0 };
        int r = fd < 0 ? fd : upper_entry_read(fd, "", &now);

        if (r < 0)
                return r;
        if (now.inode != x->e->inode || now.class != x->e->class)
                return 0; /* somebody was faster */
        r = xattr_write_fd(fd, XATTR_REDIRECT, value, strlen(value), 0);
        return r < 0 ? r : 1;
}

int repair_impure(const VerifyDirectory *d) {
        int r = fsetxattr(d->upper_fd, XATTR_IMPURE, "y", 1, 0) < 0 ? -errno : 0;

        return r < 0 ? r : 1;
}

/* Something made over a whiteout and removed again leaves none where the lower has no such name. */
int repair_whiteout(const VerifyEntry *x, const char *value) {
        _cleanup_close_ int fd = -EBADF;
        struct stat st;

        if (x->v->context->root_fd < 0)
                return unlinkat(x->dir->upper_fd, x->name, 0) < 0 ? -errno : 1;
        fd = open_dir_beneath(x->v->context->root_fd, x->dir->path);
        if (fd < 0)
                return fd;
        if (mkdirat(fd, x->name, 0) < 0 || unlinkat(fd, x->name, AT_REMOVEDIR) < 0)
                return -errno;
        return fstatat(x->dir->upper_fd, x->name, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
}
