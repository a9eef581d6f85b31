/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The reverse of marking, for an overlay that nobody else uses. On a live one it is not safe: as long as the
 * kernel has the directory in memory as opaque, deleting and renaming leaves no whiteout, and every such
 * name would come back (docs/overlayfs.md 5.7). There, an exchange undoes it. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/fs-util.h"
#include "core/mark/mark-internal.h"
#include "core/mount/reconfigure.h"
#include "core/record/manifest.h"
#include "core/upper/layer.h"
#include "core/upper/meta.h"

/* Lower names that are gone were deleted by users, and stay so. */
static int cover_deleted(const Node *recorded, int upper_fd) {
        ENTRY_FOREACH (recorded, e) {
                struct stat st;

                if (e->is_local || fstatat(upper_fd, e->name, &st, AT_SYMLINK_NOFOLLOW) >= 0)
                        continue;
                if (errno != ENOENT || mknodat(upper_fd, e->name, S_IFCHR, makedev(0, 0)) < 0)
                        return -errno;
        }
        return 0;
}

/* A directory made while its parent was opaque has no mark of its own, and would be merged with a lower one
 * of that name. */
static int keep_pure(int dfd, const char *name, unsigned char type, void *userdata) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        _cleanup_close_ int fd = type == DT_DIR ? open_dir_beneath(dfd, name) : -ENOENT;
        int r;

        if (fd < 0)
                return errno_is_gone(fd) ? 0 : fd;
        r = upper_entry_read(fd, "", &e);
        return r < 0 || e.class != UPPER_PLAIN ? r : mark_write_opaque(fd);
}

static int count_name(int dfd, const struct dirent *de, void *userdata) {
        ++*(size_t *) userdata;
        return 0;
}

/* Names at path, as the overlay shows it. */
static int count_names(const Context *context, const char *path, size_t *ret) {
        _cleanup_close_ int fd = open_dir_beneath(context->root_fd, path);

        *ret = 0;
        return fd < 0 ? fd : dir_foreach_dirent(fd, count_name, ret);
}

/* Names of the lower have appeared: programs that keep a listing must see that. */
static int touch_if_more(const Context *context, const char *path, size_t before) {
        _cleanup_close_ int fd = -EBADF;
        size_t n;
        int r = count_names(context, path, &n);

        if (r < 0 || n == before)
                return r;
        fd = open_dir_beneath(context->root_fd, path);
        return fd < 0 ? fd : meta_touch(fd, fd);
}

int mark_undo(Context *context, const char *path, const Records *records, Failure *reterr) {
        _cleanup_close_ int upper_fd = open_dir_beneath(context->upper_fd, path);
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        _cleanup_free_ char *handle = NULL;
        const Node *recorded;
        struct stat st;
        size_t n_names;
        int r = upper_fd < 0 ? upper_fd : upper_entry_read(upper_fd, "", &e);

        if (r >= 0 && (e.class != UPPER_OPAQUE || !upper_entry_has_absolute_redirect(&e)))
                return 0;
        if (r >= 0)
                r = count_names(context, path, &n_names);
        if (r >= 0)
                r = file_handle_at(upper_fd, "", &handle);
        recorded = r < 0 ? NULL : records_find(records, handle);
        if (r >= 0 && fstat(upper_fd, &st) < 0)
                r = -errno;
        if (recorded && r >= 0) {
                r = cover_deleted(recorded, upper_fd);
                (void) futimens(upper_fd, (struct timespec[2]){ st.st_atim, st.st_mtim });
        }
        if (r >= 0)
                r = dir_foreach(upper_fd, keep_pure, NULL);
        if (r >= 0 && fremovexattr(upper_fd, XATTR_OPAQUE) < 0)
                r = -errno;
        if (r >= 0)
                r = remount_reconfigure(context->root_fd, reterr);
        if (r >= 0)
                r = touch_if_more(context, path, n_names);
        return r < 0 ? failure_set_errno(reterr, r, "cannot take the mark from '%s'", path) : 1;
}
