/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The exchange itself, and the moments around it: the last look, the rename, the proof, and what came late
 * (docs/overlayfs.md 5.1, 5.4). It builds no tree, and removes none: build.c, undo.c and settle.c come
 * before it, retire.c after it. One rename puts the new tree in the place of the old one, so the name leads
 * to one of them at every instant; what does not look as it should afterwards is exchanged back. */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fs-util.h"
#include "core/exchange/exchange-internal.h"
#include "core/upper/redirect-max.h"
#include "core/upper/times.h"

/* How long to look for a moment in which nothing changes. */
#define GIVE_UP_USEC (60 * USEC_PER_SEC)
/* How long it is believed who stands in the directory. */
#define LOOK_VALID_USEC (20 * USEC_PER_MSEC)
/* See scheduling_grace(). */
#define GRACE_USEC (50 * USEC_PER_MSEC)
#define GRACE_PER_TASK_USEC (25 * USEC_PER_MSEC)

static int upper_inode(int dfd, const char *name, uint64_t *ret) {
        struct stat st;

        if (fstatat(dfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        *ret = st.st_ino;
        return 0;
}

/* From here on path users reach the old tree: after a crash nobody can tell any more who has removed what is
 * missing there. */
static int note_beside(Exchange *x) {
        int r;

        if (x->beside.is_noted)
                return 0;
        r = file_write_atomic(x->staging.dir.fd, STAGING_BESIDE, "", 0);
        x->beside.is_noted = r >= 0;
        return r;
}

/* The old tree goes beside its directory, where "../x" from within finds what it did before: staging is
 * closed to all but root, and has other neighbours. */
int exchange_move_beside(Exchange *x) {
        int r;

        if (x->beside.is_there)
                return 0;
        r = note_beside(x);
        if (r < 0)
                return r;
        if (renameat2(x->staging.dir.fd, STAGING_TREE, x->parent.fd, x->beside.name, RENAME_NOREPLACE) < 0)
                return -errno;
        x->beside.is_there = true;
        return 0;
}

static int swap_names(Exchange *x) {
        int r = renameat2(x->staging.dir.fd, STAGING_TREE, x->parent.fd, x->name, RENAME_EXCHANGE) < 0
                ? -errno
                : 0;

        if (r != -EXDEV || redirect_max_raise(&x->context->redirect_max_hold) < 0)
                return r;
        /* The kernel writes a redirect for the old tree, and found it too long (docs/overlayfs.md 2.5). */
        return renameat2(x->staging.dir.fd, STAGING_TREE, x->parent.fd, x->name, RENAME_EXCHANGE) < 0
                ? -errno
                : 0;
}

static bool is_in_place(Exchange *x, bool swapped) {
        uint64_t at, staged;
        const Node *root = x->tree->root;

        return upper_inode(x->parent.upper_fd, x->name, &at) >= 0 &&
                upper_inode(x->staging.dir.upper_fd, STAGING_TREE, &staged) >= 0 &&
                at == (swapped ? root->new_inode : root->old_inode) &&
                staged == (swapped ? root->old_inode : root->new_inode);
}

/* The exchange, and the proof that it took away what we had copied. Should somebody have put another
 * directory there in the last moment, that one goes back; if that fails too, staging_remove() keeps it. */
static int swap_checked(Exchange *x) {
        int r;

        if (!is_in_place(x, /* swapped= */ false))
                return EXCHANGE_ANEW;
        r = swap_names(x);
        if (r < 0)
                return r == -ENOENT ? EXCHANGE_ANEW : r;
        if (!is_in_place(x, /* swapped= */ true)) {
                r = swap_names(x);
                return r < 0 ? r : EXCHANGE_ANEW;
        }
        x->phase = PHASE_EXCHANGED;
        x->staging.is_published = true;
        return 0;
}

/* How long a task that had found its way into the old tree just before the exchange may wait for a processor
 * until it goes on there: until then the old tree must stay whole (docs/overlayfs.md 5.4). The scheduler
 * gives each runnable task its turn. */
static uint64_t scheduling_grace(void) {
        long processors = sysconf(_SC_NPROCESSORS_ONLN);
        unsigned runnable = 1;
        FILE *f = fopen("/proc/loadavg", "re");

        if (f) {
                if (fscanf(f, "%*f %*f %*f %u", &runnable) != 1)
                        runnable = 1;
                (void) fclose(f);
        }
        return GRACE_USEC + GRACE_PER_TASK_USEC * runnable / (uint64_t) (processors > 0 ? processors : 1);
}

/* What comes late is replayed at once. What comes later still is the business of whoever retires the old
 * tree. */
static int aftermath(Exchange *x) {
        uint64_t start = now_monotonic_usec(), grace = scheduling_grace();

        for (;;) {
                int r = reconcile_events(x);
                uint64_t passed = now_monotonic_usec() - start;

                if (r < 0 || passed >= grace)
                        return r;
                r = watch_wait(x, 1 + (int) ((grace - passed) / USEC_PER_MSEC));
                if (r < 0)
                        return r;
        }
}

/* Once more, because mounts come and go. A mount that comes later is caught by the kernel or by the removal
 * of the old tree, an overlay upon it by layer_hold_begin(). */
static int check_mounts_again(Exchange *x, Failure *reterr) {
        const OverlayInnerMount *m;
        char text[INNER_MOUNT_TEXT_SIZE];
        int r = context_load_inner_mounts(x->context);

        if (r < 0)
                return r;
        m = context_find_inner_mount_below(x->context, x->tree->path);
        if (!m)
                r = context_find_layer_around(x->context, x->tree->path, &m);
        if (r >= 0 && !m)
                r = layer_hold_find(x, x->context->inner_mounts, x->context->n_inner_mounts, &m);
        if (r < 0 || !m)
                return r;
        inner_mount_to_text(m, text);
        return failure_set(
                reterr, FAILURE_BUSY, EBUSY,
                "'%s/%s' is, holds or lies in %s, which was made meanwhile; it can be exchanged once that "
                "is unmounted",
                x->context->overlay->mount_point, x->tree->path, text);
}

/* What changes all the time has moved on while /proc was read. It is followed without another look at /proc,
 * as long as that one is young. An Exchanged: whether it is in line. */
static int come_in_line(Exchange *x, Failure *reterr) {
        uint64_t deadline = now_monotonic_usec() + LOOK_VALID_USEC;

        for (;;) {
                int r = watch_drain(x);

                if (r < 0)
                        return r;
                if (now_monotonic_usec() > deadline)
                        return EXCHANGED_NOT_YET;
                if (r == 0)
                        return EXCHANGED_DONE;
                r = settle(x, reterr);
                if (r < 0)
                        return r;
        }
}

/* Between the last look at the queue and the lock that the exchange takes lies the only window. */
static int try_exchange(Exchange *x, Failure *reterr) {
        const char *const no_names[] = { NULL };
        TimesGuard guard;
        int r;

        /* xfs touches a directory whose ".." changes (xfs_cross_rename; docs/overlayfs.md 5.8). */
        times_guard_begin(&guard, x->new.fd);
        r = check_mounts_again(x, reterr);
        if (r >= 0)
                r = exchange_check_occupants(x);
        if (r > 0)
                r = EXCHANGED_HELD_UP;
        else if (r == 0)
                r = come_in_line(x, reterr);
        if (r == 0) {
                r = swap_checked(x);
                if (r >= 0)
                        r = reconcile_events(x);
                if (r >= 0)
                        r = exchange_note_late_occupants(x);
        }
        times_guard_end(&guard, no_names);
        if (r == 0 && x->has_occupants)
                r = exchange_move_beside(x);
        return r;
}

int exchange_now(Exchange *x, Failure *reterr) {
        const char *names[] = { x->name, x->beside.name, NULL };
        uint64_t give_up = now_monotonic_usec() + GIVE_UP_USEC;
        int r, priority = priority_raise();
        TimesGuard guard;

        times_guard_begin(&guard, x->parent.fd);
        r = x->has_occupants ? note_beside(x) : 0; /* takes its time, which nobody has later */
        while (r == 0 && (r = try_exchange(x, reterr)) == EXCHANGED_NOT_YET) {
                r = now_monotonic_usec() > give_up ? -EBUSY : settle(x, reterr);
                if (r < 0)
                        break;
        }
        if (r == 0)
                r = aftermath(x);
        if (r == 0)
                r = layer_hold_begin(x);
        x->kept.is_theirs = x->beside.is_there;
        times_guard_end(&guard, names);
        priority_restore(priority);
        return r;
}
