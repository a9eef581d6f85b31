/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether an overlay can be swapped, and whether it may be now: what stands in the way for good fails, who
 * would be cut apart is waited for. Nothing is changed. While it waits it holds nothing of the overlay, so
 * that can be unmounted. */
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fs-util.h"
#include "core/check/check.h"
#include "core/lower/lower.h"
#include "core/lower/proof-owners.h"
#include "core/mount/mount-clone.h"
#include "core/remount/remount-internal.h"
#include "core/upper/names.h"
#include "core/users/blockers.h"

#define BLOCKERS_LOOK_USEC (300 * USEC_PER_MSEC)

/* An unknown flag is refused before the descriptors are looked at. */
bool kernel_mounts_beneath(void) {
        return move_mount(
                       -EBADF, "", -EBADF, "",
                       MOVE_MOUNT_BENEATH | MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0 &&
                errno == EBADF;
}

/* Those of finalizing that are also ours; the others may be what the swap is to repair. */
static int check_findings(const Overlay *o, Failure *reterr) {
        static const char *const ids[] = { "upper", "upper-path", "work-path", "second-overlay",
                                           "user-namespace" };
        CheckList l = { 0 };
        int r = overlay_check(o, &l);

        if (r < 0)
                return failure_set_errno(reterr, r, "cannot check '%s'", o->mount_point);
        for (size_t i = 0; i < ELEMENTSOF(ids) && r >= 0; i++) {
                const Check *c = check_list_find(&l, ids[i]);

                if (c && c->level == CHECK_FAIL)
                        r = failure_set(
                                reterr, FAILURE_PRECONDITION, EOPNOTSUPP, "'%s' cannot be swapped: %s; %s",
                                o->mount_point, c->text, c->advice ?: "");
        }
        check_list_done(&l);
        return r;
}

/* A path that leads into the overlay itself now was given before it was mounted there. */
static int check_layer(const Overlay *o, const char *path, Failure *reterr) {
        _cleanup_close_ int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return failure_set_errno(
                        reterr, -errno, "cannot open '%s', a layer of '%s': it was moved or unmounted since",
                        path, o->mount_point);
        if (st.st_dev != o->device)
                return 0;
        return failure_set(
                reterr, FAILURE_PRECONDITION, EOPNOTSUPP,
                "'%s' cannot be swapped: its layer '%s' is hidden by the overlay itself; mount the layer at "
                "a second place, and the overlay from there",
                o->mount_point, path);
}

static int check_layers(const Overlay *o, Failure *reterr) {
        int r = check_layer(o, o->upper, reterr);

        if (r >= 0)
                r = check_layer(o, o->work, reterr);
        for (size_t i = 0; i < o->n_lower && r >= 0; i++)
                r = check_layer(o, o->lower[i], reterr);
        for (size_t i = 0; i < o->n_data && r >= 0; i++)
                r = check_layer(o, o->data[i], reterr);
        return r;
}

static int check_owners(const Overlay *o, const Lower *l, size_t i, Failure *reterr) {
        _cleanup_close_ int fd = mount_clone_open(o->lower[i], O_PATH);
        int r = fd < 0 ? fd : proof_owners(l->layer_fds[i], fd);

        if (r == -EREMCHG)
                return failure_set(
                        reterr, FAILURE_LOWER_UNPROVED, EREMCHG,
                        "'%s' cannot be swapped: its lower layer has other owners at '%s', as the mount "
                        "there has another id map; set LowerDir= in its configuration to where it is seen "
                        "with the same one",
                        o->mount_point, o->lower[i]);
        return r < 0 ? failure_set_errno(reterr, r, "cannot look at the lower layer '%s'", o->lower[i]) : 0;
}

/* The kernel opens the paths of the layers anew. */
int remount_check_lower(const Context *context, Failure *reterr) {
        const Overlay *o = context->overlay;
        _cleanup_(lower_done) Lower l = LOWER_INIT;
        int r = lower_open(context, &l, reterr);

        if (r >= 0 && lower_prove_data(&l) < 0)
                r = failure_set(
                        reterr, FAILURE_LOWER_UNPROVED, EREMCHG,
                        "'%s' cannot be swapped: it is not proved that what stands at the paths of its "
                        "data-only layers is what it reads; unmount it and mount it anew",
                        o->mount_point);
        for (size_t i = 0; i < o->n_lower && r >= 0; i++)
                r = check_owners(o, &l, i, reterr);
        return r;
}

static int check_mount(const Overlay *o, const RemountRequest *q, Failure *reterr) {
        _cleanup_table_ MountTable t = { 0 };
        const MountEntry *e, *parent;
        int r = mount_table_read(MOUNTINFO, &t);

        if (r < 0)
                return failure_set_errno(reterr, r, "cannot read the mount table");
        e = mount_table_find(&t, o->mount_id);
        if (!e || mount_table_reach(&t, o->mount_point) != e)
                return failure_set(
                        reterr, FAILURE_BUSY, EBUSY, "'%s' is being mounted by somebody else, try again",
                        o->mount_point);
        if (e->propagation_flags & MS_SLAVE)
                return failure_set(
                        reterr, FAILURE_PRECONDITION, EOPNOTSUPP,
                        "'%s' cannot be swapped: it receives mounts from another peer group, which the new "
                        "mount could not join; do it in the mount namespace it comes from",
                        o->mount_point);
        parent = mount_table_find(&t, e->parent_id);
        if (parent && strcmp(parent->type, "overlay") == 0 && strcmp(parent->target, e->target) == 0)
                return failure_set(
                        reterr, FAILURE_PRECONDITION, EBUSY,
                        "'%s' cannot be swapped: it covers another overlay, as after a swap with "
                        "CoverOld=yes, "
                        "which is possible once; when nobody uses it, unmount it twice and mount it anew, "
                        "with "
                        "the options it should have",
                        o->mount_point);
        if (!kernel_mounts_beneath() && !q->may_cover)
                return failure_set(
                        reterr, FAILURE_PRECONDITION, EOPNOTSUPP,
                        "'%s' cannot be swapped: the kernel cannot mount beneath another mount (Linux 6.5 "
                        "can); CoverOld=yes in [Remount] allows to cover the old mount, which then takes "
                        "two umounts",
                        o->mount_point);
        return child_mounts_check(&t, o, reterr);
}

static int check_kept(int dfd, const char *name, unsigned char type, void *userdata) {
        _cleanup_close_ int fd = open_dir_beneath(dfd, name);

        return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK ? -EBUSY : 0;
}

/* A worker of ours that keeps an old tree watches it through the old superblock, which would tell it nothing
 * any more. Staging directories are locked as long as their worker lives (staging.h). */
static int check_old_trees(const Context *context, Failure *reterr) {
        _cleanup_close_ int fd = open_dir_beneath(context->root_fd, STAGING_NAME);

        if (fd < 0 || dir_foreach(fd, check_kept, NULL) != -EBUSY)
                return 0;
        return failure_set(
                reterr, FAILURE_BUSY, EBUSY,
                "'%s' cannot be swapped while old trees are kept for processes that stand in them; "
                "'ovlfinctl blockers' names these",
                context->overlay->mount_point);
}

int remount_check(Context *context, const RemountRequest *q, OverlayOptions *ret, Failure *reterr) {
        const Overlay *o = context->overlay;
        uint64_t attributes;
        int r;

        r = overlay_options_carry(o, q->set, ret, reterr);
        if (r >= 0 && mount_attributes(o->vfs_options, &attributes) < 0)
                r = failure_set(
                        reterr, FAILURE_PRECONDITION, EOPNOTSUPP,
                        "'%s' cannot be swapped: ovlfind does not know all of its mount flags '%s'",
                        o->mount_point, o->vfs_options);
        if (r >= 0)
                r = check_mount(o, q, reterr);
        if (r >= 0)
                r = check_layers(o, reterr);
        if (r >= 0)
                r = check_findings(o, reterr);
        if (r >= 0)
                r = check_old_trees(context, reterr);
        return r < 0 ? r : remount_check_lower(context, reterr);
}

/* Told once for each set of them. */
static void tell_blockers(const Context *context, const char *who, char told[static BLOCKERS_TEXT_SIZE]) {
        if (strcmp(who, told) == 0)
                return;
        strcpy(told, who);
        context_note(context, "", "waiting for %s, which a swap would cut apart; --force goes ahead", who);
}

/* Who waits keeps nobody from unmounting it. */
static void let_go(Context *context) {
        context->root_fd = fd_close(context->root_fd);
        context->upper_fd = fd_close(context->upper_fd);
}

/* Looks again often enough that who has waited for them to end hardly notices, and costs little when there
 * are many processes. */
int remount_wait_for_blockers(Context *context, Failure *reterr) {
        char who[BLOCKERS_TEXT_SIZE], told[BLOCKERS_TEXT_SIZE] = "";

        context_doing(
                context,
                "it looks through /proc for processes that use the overlay; see whether one of them hangs");

        for (;;) {
                uint64_t before = now_monotonic_usec(), took;
                Blockers b = { 0 };
                size_t n;
                int r = blockers_find(context->overlay, NULL, NULL, &b);

                if (r < 0)
                        return failure_set_errno(
                                reterr, r, "cannot find out who uses '%s'", context->overlay->mount_point);
                n = b.n_blocking;
                blockers_to_text(&b, who);
                blockers_done(&b);
                if (n == 0)
                        return context->root_fd < 0 ? -EAGAIN : 0;
                let_go(context);
                context_progress(context, JOB_WAITING, 0, 0);
                tell_blockers(context, who, told);
                took = now_monotonic_usec() - before;
                if (context_is_canceled(context))
                        return failure_set(
                                reterr, FAILURE_CANCELED, ECANCELED, "canceled while it waited for %s", who);
                (void) poll(
                        NULL, 0,
                        (int) ((took > BLOCKERS_LOOK_USEC / 4 ? 4 * took : BLOCKERS_LOOK_USEC) /
                               USEC_PER_MSEC));
        }
}
