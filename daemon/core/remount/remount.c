/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/remount/remount.h"

#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/clock.h"
#include "base/fs-util.h"
#include "base/str.h"
#include "core/context/staging.h"
#include "core/mount/reconfigure.h"
#include "core/remount/remount-internal.h"
#include "core/upper/names.h"

#define REHEARSALS_MAX 3 /* when mounts below change meanwhile */
#define CATCH_UPS_MAX 5

static void successor_done(Successor *s) {
        s->mount_fd = fd_close(s->mount_fd);
        overlay_options_done(&s->options);
        workdir_done(&s->workdir);
}

/* Proofs, before anybody can see the new superblock. */

static int open_root(int fd) {
        int r = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        return r < 0 ? -errno : r;
}

static bool has_mark(int fd, const char *id) {
        _cleanup_free_ char *value = NULL;

        return xattr_read_fd(fd, MARK_XATTR, &value) >= 0 && strcmp(value, id) == 0;
}

/* What is written through the old one must be in the upper and in the new one. An attribute of the root, as
 * no name has to be made, looked up and forgotten for it. */
static int prove_upper(const Context *context, int new_fd, Failure *reterr) {
        const Overlay *o = context->overlay;
        char id[32];
        bool is_same;

        (void) snprintf(
                id, sizeof(id), "%i.%llx", (int) getpid(), (unsigned long long) now_monotonic_usec());
        if (fsetxattr(context->root_fd, MARK_XATTR, id, strlen(id), 0) < 0)
                return failure_set_errno(reterr, -errno, "cannot mark the root of '%s'", o->mount_point);
        is_same = has_mark(context->upper_fd, id) && has_mark(new_fd, id);
        (void) fremovexattr(context->root_fd, MARK_XATTR);
        if (is_same)
                return 0;
        return failure_set(
                reterr, FAILURE_PRECONDITION, ESTALE,
                "'%s' cannot be swapped: a new superblock made of '%s' does not show what the running one "
                "writes; it was moved or mounted over since",
                o->mount_point, o->upper);
}

typedef struct Roots {
        int old_fd, new_fd;
        char *differing; /* name of an entry */
} Roots;

/* Numbers of directories depend on how they are merged, and times of directories on who looks. */
static bool is_same_entry(const struct stat *a, const struct stat *b) {
        if (a->st_mode != b->st_mode || a->st_uid != b->st_uid || a->st_gid != b->st_gid)
                return false;
        return S_ISDIR(a->st_mode) ||
                (a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
                 a->st_mtim.tv_nsec == b->st_mtim.tv_nsec);
}

static bool is_same_or_absent(bool has_a, const struct stat *a, bool has_b, const struct stat *b) {
        return has_a == has_b && (!has_a || is_same_entry(a, b));
}

/* What users are just changing tells nothing: it is looked at in the old one twice. */
static int compare_entry(int dfd, const char *name, unsigned char type, void *userdata) {
        Roots *roots = userdata;
        bool is_new, is_old, is_still;
        struct stat a, b, c;

        is_old = fstatat(roots->old_fd, name, &a, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) >= 0;
        is_new = fstatat(roots->new_fd, name, &b, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) >= 0;
        if (is_staging_name(name) || is_same_or_absent(is_old, &a, is_new, &b))
                return 0;
        is_still = fstatat(roots->old_fd, name, &c, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) >= 0;
        if (!is_same_or_absent(is_old, &a, is_still, &c))
                return 0;
        return str_replace(&roots->differing, name) < 0 ? -ENOMEM : WALK_ENOUGH;
}

/* Whether the lower layers are those of old: their paths may lead elsewhere by now. The root's entries tell,
 * and users may change some meanwhile; a name that differs three times in a row is no such change. */
static int prove_lower(const Context *context, int new_fd, Failure *reterr) {
        Roots roots = { .old_fd = context->root_fd, .new_fd = new_fd };
        int r = 0;

        for (unsigned tries = 0; tries < 3; tries++) {
                r = dir_foreach(roots.old_fd, compare_entry, &roots);
                if (r >= 0)
                        r = dir_foreach(roots.new_fd, compare_entry, &roots);
                if (r != WALK_ENOUGH)
                        break;
                (void) remount_reconfigure(new_fd, NULL);
        }
        if (r == WALK_ENOUGH)
                r = failure_set(
                        reterr, FAILURE_PRECONDITION, ESTALE,
                        "'%s' cannot be swapped: a new superblock of the same layers shows another '%s'; a "
                        "layer was moved or mounted over since, or changed below the running overlay",
                        context->overlay->mount_point, roots.differing);
        free(roots.differing);
        return r < 0 ? failure_set_errno(
                               reterr, r, "cannot compare the new superblock with '%s'",
                               context->overlay->mount_point)
                     : 0;
}

/* Whatever the proofs made the new one remember is forgotten: a name it had looked up would stay as it was
 * then. */
static int prove(Context *context, int mount_fd, Failure *reterr) {
        _cleanup_close_ int fd = open_root(mount_fd);
        int r;

        if (fd < 0)
                return failure_set_errno(
                        reterr, fd, "cannot open the new superblock for '%s'",
                        context->overlay->mount_point);
        r = prove_upper(context, fd, reterr);
        if (r >= 0)
                r = prove_lower(context, fd, reterr);
        if (r >= 0) /* a path may lead elsewhere since the check */
                r = remount_check_lower(context, reterr);
        return r < 0 ? r : remount_reconfigure(fd, reterr);
}

/* Making. */

static int rehearse_once(Successor *s, Failure *reterr) {
        _cleanup_close_ int fd = superblock_create(s->old, &s->options, s->workdir.path, reterr);
        int r = fd < 0 ? fd : remount_rehearse(s->old, &s->options, fd, reterr);

        if (r < 0)
                return r;
        s->mount_fd = r;
        return 0;
}

/* A superblock that was never attached leaves nothing but its directory. */
static void discard(Successor *s) {
        s->mount_fd = fd_close(s->mount_fd);
        if (s->workdir.fd >= 0)
                (void) workdir_remove(&s->workdir);
        workdir_done(&s->workdir);
}

/* Again if mounts below were changed while they were copied, with another work directory: of two superblocks
 * that are given the same one, the second does not hold it (ovl_get_workdir()). */
static int rehearse(Successor *s, Failure *reterr) {
        for (unsigned n = 1;; n++) {
                _cleanup_failure_ Failure f = FAILURE_INIT;
                int r = workdir_create(s->old, &s->workdir, &f);

                if (r >= 0)
                        r = rehearse_once(s, &f);
                if (r >= 0)
                        return 0;
                discard(s);
                if (r != -EBUSY || n == REHEARSALS_MAX) {
                        failure_move(reterr, &f);
                        return r;
                }
        }
}

/* The kernel makes "work" in the directory it was given: whether that is the one we made, and nobody led it
 * astray. */
static int check_work(const Successor *s, Failure *reterr) {
        struct stat st;

        if (fstatat(s->workdir.fd, "work", &st, AT_SYMLINK_NOFOLLOW) >= 0)
                return 0;
        return failure_set(
                reterr, FAILURE_BUSY, ESTALE,
                "the work directory '%s' was moved while it was mounted; see who changes the directory "
                "around it",
                s->workdir.path);
}

static int make_successor(Context *context, Successor *s, Failure *reterr) {
        int r = rehearse(s, reterr);

        if (r >= 0)
                r = check_work(s, reterr);
        if (r >= 0)
                r = prove(context, s->mount_fd, reterr);
        if (r >= 0 && context_is_canceled(context))
                r = failure_set(reterr, FAILURE_CANCELED, ECANCELED, "canceled before anything was changed");
        return r;
}

/* Taking the place. */

static int attach(const Context *context, int mount_fd, unsigned flags, Failure *reterr) {
        if (move_mount(
                    mount_fd, "", context->root_fd, "",
                    MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH | flags) >= 0)
                return 0;
        return failure_set_errno(
                reterr, -errno, "cannot mount the new superblock %s '%s'; the running one was left alone",
                flags ? "beneath" : "upon", context->overlay->mount_point);
}

/* 1: what is mounted in the old one is mounted in the new one. */
static int catch_up_once(const Context *context, int new_fd, int new_id, Failure *reterr) {
        _cleanup_table_ MountTable t = { 0 };
        const MountEntry *top;
        int r = mount_table_read(MOUNTINFO, &t);

        if (r < 0)
                return r;
        top = mount_table_reach(&t, context->overlay->mount_point);
        if (!top || top->id != context->overlay->mount_id || top->parent_id != new_id)
                return failure_set(
                        reterr, FAILURE_BUSY, EBUSY,
                        "somebody else mounts at '%s'; the new superblock waits beneath, until ovlfind "
                        "looks at it again",
                        context->overlay->mount_point);
        if (child_mounts_same(&t, top->id, &t, new_id))
                return 1;
        r = child_mounts_drop(&t, top->id, new_fd, reterr);
        if (r >= 0) /* a directory on the way may have been renamed */
                r = remount_reconfigure(new_fd, reterr);
        return r < 0 ? r : child_mounts_copy(&t, top->id, context->root_fd, new_fd, reterr);
}

/* What was mounted in the overlay since the rehearsal would go with the old mount, and what was unmounted
 * would come back. */
static int catch_up(const Context *context, int new_fd, int new_id, Failure *reterr) {
        for (unsigned n = 1;; n++) {
                _cleanup_failure_ Failure f = FAILURE_INIT;
                int r = catch_up_once(context, new_fd, new_id, &f);

                if (r > 0)
                        return 0;
                if (n < CATCH_UPS_MAX)
                        continue;
                if (r < 0)
                        failure_move(reterr, &f);
                return r < 0 ? r
                             : failure_set(
                                       reterr, FAILURE_BUSY, EBUSY,
                                       "what is mounted in '%s' changes all the time; the new superblock "
                                       "waits beneath, until ovlfind looks at it again",
                                       context->overlay->mount_point);
        }
}

/* The new one has taken the place, whoever has mounted there since. */
static void tell_place(const Context *context, int new_id) {
        _cleanup_table_ MountTable t = { 0 };
        const MountEntry *e;

        if (mount_table_read(MOUNTINFO, &t) < 0)
                return;
        e = mount_table_reach(&t, context->overlay->mount_point);
        if (!e || e->id != new_id)
                context_note(context, "", "the new mount is covered by another one already; see findmnt");
}

static int uncover(Context *context, Successor *s, int new_id, uint64_t *ret_pause, Failure *reterr) {
        uint64_t before;
        int r = catch_up(context, s->mount_fd, new_id, reterr);

        if (r < 0)
                return r;
        before = now_monotonic_usec();
        r = mount_detach_top(context->root_fd);
        *ret_pause = now_monotonic_usec() - before;
        if (r < 0)
                return failure_set_errno(
                        reterr, r, "cannot detach the old mount at '%s'", context->overlay->mount_point);
        (void) unlinkat(s->workdir.fd, WORKDIR_UNCOVER, AT_REMOVEDIR);
        return 0;
}

static int check_unchanged(const Overlay *o, const MountEntry *e, Failure *reterr) {
        if (e && strcmp(e->vfs_options, o->vfs_options) == 0 && strcmp(e->fs_options, o->fs_options) == 0)
                return 0;
        return failure_set(
                reterr, FAILURE_BUSY, EBUSY,
                "'%s' was unmounted, or its options were changed, while it was to be swapped; try again",
                o->mount_point);
}

/* 1: it is attached, but does not answer yet. */
static int take_place(Context *context, Successor *s, bool beneath, uint64_t *ret_pause, Failure *reterr) {
        _cleanup_table_ MountTable before = { 0 };
        int r, new_id = fd_mount_id(s->mount_fd);
        uint64_t start;

        if (new_id < 0)
                return new_id;
        r = mount_table_read(MOUNTINFO, &before);
        if (r < 0)
                return failure_set_errno(reterr, r, "cannot read the mount table");
        r = check_unchanged(s->old, mount_table_find(&before, s->old->mount_id), reterr);
        if (r < 0)
                return r;
        if (beneath && mkdirat(s->workdir.fd, WORKDIR_UNCOVER, 0700) < 0)
                return failure_set_errno(reterr, -errno, "cannot write to '%s'", s->workdir.path);
        start = now_monotonic_usec();
        r = attach(context, s->mount_fd, beneath ? MOVE_MOUNT_BENEATH : 0, reterr);
        if (r < 0)
                return r;
        *ret_pause = now_monotonic_usec() - start;
        if (beneath && uncover(context, s, new_id, ret_pause, reterr) < 0)
                return 1;
        r = mounts_copy_propagation(&before, s->old->mount_id, s->mount_fd);
        if (r < 0) /* it has the one of its parent, which nobody who looks up a path notices */
                context_note(
                        context, "", "the new mount could not be given the propagation of the old one: %s",
                        strerror(-r));
        return 0;
}

static int open_drain(const Context *context, bool is_covered, Drain **ret) {
        _cleanup_(drain_freep) Drain *d = drain_new();

        if (!d)
                return -ENOMEM;
        d->is_covered = is_covered;
        d->mount_id = context->overlay->mount_id;
        d->device = context->overlay->device;
        d->work = strdup(context->overlay->work);
        d->root_fd = openat(context->root_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (d->root_fd < 0 || !d->work)
                return d->root_fd < 0 ? -errno : -ENOMEM;
        *ret = TAKE_PTR(d);
        return 0;
}

int remount_swap(Context *context, const RemountRequest *q, RemountResult *ret, Failure *reterr) {
        _cleanup_(successor_done)
                Successor s = { .old = context->overlay, .workdir = WORKDIR_INIT, .mount_fd = -EBADF };
        bool beneath = kernel_mounts_beneath();
        _cleanup_(drain_freep) Drain *d = NULL;
        int r = remount_check(context, q, &s.options, reterr);

        if (r >= 0 && !q->ignore_blockers)
                r = remount_wait_for_blockers(context, reterr);
        if (r >= 0)
                r = open_drain(context, !beneath, &d);
        if (r >= 0)
                r = make_successor(context, &s, reterr);
        if (r < 0) {
                discard(&s);
                return r;
        }
        context_progress(context, JOB_APPLYING, 0, 0);
        if (beneath && drain_record(context, d) < 0)
                context_note(context, "", "another daemon will not know of the old superblock");
        r = take_place(context, &s, beneath, &ret->pause_usec, reterr);
        if (r < 0) {
                drain_forget(context, d);
                discard(&s);
        }
        if (r != 0)
                return r < 0 ? r : -EBUSY;
        ret->drain = TAKE_PTR(d);
        tell_place(context, fd_mount_id(s.mount_fd));
        return 0;
}

/* The plan. */

typedef struct Steps {
        remount_step_func func;
        void *userdata;
        int error;
} Steps;

static _printf_(3, 4) void say(Steps *s, const char *name, const char *format, ...) {
        _cleanup_free_ char *text = NULL;
        va_list ap;

        va_start(ap, format);
        text = str_formatv(format, ap);
        va_end(ap);
        if (s->error >= 0)
                s->error = text ? s->func(name, text, s->userdata) : -ENOMEM;
}

static char *options_text(const OverlayOptions *l) {
        _cleanup_free_ char *text = strdup("");

        for (size_t i = 0; text && i < l->n; i++) {
                _cleanup_free_ char *before = TAKE_PTR(text);

                text = str_format(
                        "%s%s%s%s%s", before, i > 0 ? "," : "", l->items[i].key,
                        l->items[i].value ? "=" : "", l->items[i].value ?: "");
        }
        return TAKE_PTR(text);
}

int remount_plan(
        Context *context, const RemountRequest *q, remount_step_func step, void *userdata, Failure *reterr) {
        _cleanup_(overlay_options_done) OverlayOptions l = { 0 };
        Steps s = { .func = step, .userdata = userdata };
        const Overlay *o = context->overlay;
        bool beneath = kernel_mounts_beneath();
        _cleanup_free_ char *options = NULL;
        int r = remount_check(context, q, &l, reterr);

        if (r < 0)
                return r;
        options = options_text(&l);
        say(&s, "work-directory", "make a work directory of its own beside '%s'", o->work);
        say(&s, "create", "make a new superblock of the same layers with %s", options ?: "the options");
        say(&s, "rehearse",
            "attach it in a mount namespace of its own, read its options back, copy what is mounted below");
        say(&s, "prove", "see that it shows what the running one writes, and the same entries");
        if (beneath)
                say(&s, "attach", "attach it beneath the running mount");
        else
                say(&s, "cover",
                    "attach it upon the running mount, which stays there: it takes two umounts");
        if (beneath)
                say(&s, "detach", "detach the running mount; whoever has something open there keeps it");
        say(&s, "drain",
            "make the old superblock read-only when nobody writes through it, remove what it leaves");
        return s.error;
}
