/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a swap leaves that was killed: see "What a crash leaves" in docs/architecture.md. Once the new
 * superblock is attached the way is forward only: the old one is detached. Before that nothing has to be
 * undone but work directories that nobody uses. */
#include <fcntl.h>
#include <string.h>
#include <sys/xattr.h>

#include "core/remount/remount-internal.h"

/* The old mount stands on its successor, which was ready. Whoever killed the worker killed it between the
 * two steps. */
static int uncover_again(const Overlay *o, const MountTable *t, const MountEntry *top, Failure *reterr) {
        const MountEntry *below = mount_table_find(t, top->parent_id);
        _cleanup_(workdir_done) Workdir w = WORKDIR_INIT;
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ char *work = NULL;
        Overlay o_below = { 0 };
        int r;

        if (!below || strcmp(below->type, "overlay") != 0 || strcmp(below->target, top->target) != 0 ||
            mount_options_next(below->fs_options, "workdir", NULL, &work) <= 0)
                return 0;
        mount_option_unescape(work);
        if (!overlay_work_is_sibling(work, o->work))
                return 0;
        o_below.work = work;
        r = workdir_open_current(&o_below, &w);
        if (r <= 0 || faccessat(w.fd, WORKDIR_UNCOVER, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                return r < 0 && r != -EWOULDBLOCK ? r : 0;
        if (!child_mounts_same(t, top->id, t, below->id))
                return failure_set(
                        reterr, FAILURE_PRECONDITION, EBUSY,
                        "a swap of '%s' was interrupted, and its mounts were changed since; unmount what is "
                        "mounted below it",
                        o->mount_point);
        fd = open(o->mount_point, O_PATH | O_DIRECTORY | O_CLOEXEC);
        r = fd < 0 ? -errno : fd_mount_id(fd);
        if (r >= 0 && r != top->id)
                r = -EBUSY;
        if (r >= 0)
                r = mount_detach_top(fd);
        if (r < 0)
                return failure_set_errno(
                        reterr, r, "cannot finish the interrupted swap of '%s'", o->mount_point);
        (void) fd_close(fd);
        fd = open(o->mount_point, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0)
                (void) mounts_copy_propagation(t, top->id, fd);
        (void) unlinkat(w.fd, WORKDIR_UNCOVER, AT_REMOVEDIR);
        return 1;
}

int remount_recover(const Overlay *o, Failure *reterr) {
        _cleanup_table_ MountTable t = { 0 };
        const MountEntry *top;
        int r = mount_table_read(MOUNTINFO, &t);

        if (r < 0)
                return failure_set_errno(reterr, r, "cannot read the mount table");
        top = mount_table_find(&t, o->mount_id);
        return top && o->work ? uncover_again(o, &t, top, reterr) : 0;
}

int remount_sweep(const Overlay *o, Failure *reterr) {
        int r;

        if (!o->work)
                return 0;
        (void) removexattr(o->mount_point, MARK_XATTR);
        r = workdir_sweep(o);
        /* What cannot be removed now may be later, and harms nobody. */
        return r < 0 && r != -EACCES && r != -EROFS && r != -EPERM && r != -ENOENT
                ? failure_set_errno(
                          reterr, r, "cannot remove work directories that nobody uses beside '%s'", o->work)
                : 0;
}
