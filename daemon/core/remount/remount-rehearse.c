/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The new superblock of a swap, attached where nobody else sees it: its options are compared, what is
 * mounted in the old one is copied into it and compared, and a copy of the whole tree is handed back,
 * detached. Nothing is replaced here. What does not turn out as it was meant is a failure, before users can
 * see it. */

/* A mount that is attached nowhere is in no mount table, and nothing can be mounted in it before Linux 6.15
 * (docs/overlayfs.md 7.7). So a thread takes it into a mount namespace of its own, and attaches it at the
 * very place. */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>

#include "core/remount/remount-internal.h"

#define THREAD_MOUNTINFO "/proc/thread-self/mountinfo"

typedef struct Rehearsal {
        const Overlay *old;
        const OverlayOptions *options;
        int mount_fd;
        int home_fd; /* the mount namespace of everybody else */
        int result;  /* a descriptor, or a negative errno */
        Failure failure;
} Rehearsal;

/* Only the overlay leaves its peer group, so that nobody sees what is mounted there. All else stays in its
 * own, for copies of what is mounted inside join the group of what they are copied from. */
static int leave_namespace(const char *mount_point) {
        if (unshare(CLONE_NEWNS) < 0)
                return -errno;
        return mount(NULL, mount_point, NULL, MS_PRIVATE, NULL) < 0 ? -errno : 0;
}

/* The table of this namespace: its copy of the old mount, and the children on it, have other ids than
 * outside. */
static int copy_children(Rehearsal *x, int old_fd, int new_fd) {
        _cleanup_table_ MountTable t = { 0 }, after = { 0 };
        int old_id = fd_mount_id(old_fd), new_id = fd_mount_id(new_fd), r;

        if (old_id < 0 || new_id < 0)
                return old_id < 0 ? old_id : new_id;
        r = mount_table_read(THREAD_MOUNTINFO, &t);
        if (r >= 0)
                r = child_mounts_copy(&t, old_id, old_fd, new_fd, &x->failure);
        if (r >= 0)
                r = mount_table_read(THREAD_MOUNTINFO, &after);
        if (r < 0)
                return r;
        return child_mounts_same(&t, old_id, &after, new_id)
                ? 0
                : failure_set(
                          &x->failure, FAILURE_BUSY, EBUSY,
                          "the mounts below '%s' could not be carried over as they are; try again when "
                          "nobody mounts there",
                          x->old->mount_point);
}

static int compare(Rehearsal *x) {
        const OverlaySources sources = { .mountinfo = THREAD_MOUNTINFO };
        _cleanup_(overlay_freep) Overlay *new = NULL;
        int r = overlay_load(&sources, x->old->mount_point, NULL, &new, &x->failure);

        return r < 0 ? r : overlay_options_verify(x->old, new, x->options, &x->failure);
}

/* The new one covers the old one here; what stands in that is reached by its descriptor. */
static int rehearse(Rehearsal *x) {
        _cleanup_close_ int old_fd = -EBADF;
        int r = leave_namespace(x->old->mount_point);

        if (r < 0)
                return r;
        old_fd = open(x->old->mount_point, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (old_fd < 0)
                return -errno;
        if (move_mount(x->mount_fd, "", old_fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
                return -errno;
        r = compare(x);
        if (r >= 0)
                r = copy_children(x, old_fd, x->mount_fd);
        if (r < 0)
                return r;
        r = open_tree(x->mount_fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
        return r < 0 ? -errno : r;
}

/* Back home, as the namespace goes with the last thread in it: at the end of the thread that would be some
 * time after pthread_join(), and until then the superblock is in use. */
static void *run(void *userdata) {
        Rehearsal *x = userdata;

        x->result = rehearse(x);
        (void) setns(x->home_fd, CLONE_NEWNS);
        return NULL;
}

int remount_rehearse(const Overlay *old, const OverlayOptions *l, int mount_fd, Failure *reterr) {
        _cleanup_close_ int home_fd = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
        Rehearsal x = { .old = old, .options = l, .mount_fd = mount_fd, .home_fd = home_fd };
        pthread_t thread;
        int r;

        if (home_fd < 0)
                return failure_set_errno(reterr, -errno, "cannot open this mount namespace");
        r = -pthread_create(&thread, NULL, run, &x);
        if (r < 0)
                return r;
        (void) pthread_join(thread, NULL);
        failure_move(reterr, &x.failure);
        if (x.result < 0)
                return failure_set_errno(
                        reterr, x.result,
                        "cannot look at the new superblock for '%s' in a mount namespace of its own",
                        old->mount_point);
        return x.result;
}
