/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What of a directory is still in the kernel's memory as it was before the redirects were written
 * (core/mount/pins.h). Nobody is made to let go of it. What is left after a reconfigure is used by somebody,
 * or was for a moment: a file then gets its absolute redirect by the kernel itself, a directory stays
 * pending. */

/* Left on an entry: its redirect in memory may be none, and a rename would make the kernel write one that is
 * wrong below an opaque directory (docs/overlayfs.md 2.4). For files, link() makes the kernel write an
 * absolute one, on disk and in memory (ovl_link(), ovl_set_redirect()); there is no such way for
 * directories. Left on the directory itself alone: somebody stands in it or watches it. A watch is no
 * hindrance, and goes dead (docs/overlayfs.md 4.3, 6.4). */
#include <fcntl.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/mark/mark-internal.h"
#include "core/mount/pins.h"
#include "core/upper/layer.h"
#include "core/upper/redirect-max.h"

#define USERS_TEXT_SIZE BLOCKERS_TEXT_SIZE

/* 1: it is still in memory. A directory is asked about twice, as itself and as an entry: the mark stays. */
static int has_pin(const Mark *m, int dfd, const char *name) {
        int r = pin_take(m->fanotify_fd, dfd, name);

        if (r <= 0)
                return r;
        r = pin_set(m->fanotify_fd, dfd, name);
        return r < 0 ? r : 1;
}

/* Entries that need a lower layer. */
typedef int (*child_func)(Mark *m, MarkDirectory *d, int fd, const char *name, bool is_directory);

typedef struct Visit {
        Mark *m;
        MarkDirectory *d;
        int fd;
        child_func func;
} Visit;

static int visit_child(int upper_fd, const char *name, unsigned char type, void *userdata) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        const Visit *v = userdata;
        int r;

        if (type != DT_REG && type != DT_DIR)
                return 0;
        r = upper_entry_read(upper_fd, name, &e);
        if (r < 0 || !upper_entry_is_merge_child(&e))
                return r;
        return v->func(v->m, v->d, v->fd, name, e.type == DT_DIR);
}

static int foreach_child(Mark *m, MarkDirectory *d, int fd, child_func func) {
        Visit v = { .m = m, .d = d, .fd = fd, .func = func };

        return dir_foreach(d->upper_fd, visit_child, &v);
}

static int set_child(Mark *m, MarkDirectory *d, int fd, const char *name, bool is_directory) {
        int r = pin_set(m->fanotify_fd, fd, name);

        return r < 0 ? r : 0;
}

static int set_directory(Mark *m, MarkDirectory *d) {
        _cleanup_close_ int fd = -EBADF;
        int r = mark_open(m, d, &fd);

        if (r < 0)
                return d->blocked ? 0 : r;
        r = pin_set(m->fanotify_fd, fd, ".");
        return r < 0 ? r : foreach_child(m, d, fd, set_child);
}

static int set_moved(Mark *m, MarkDirectory *d, const char *name) {
        _cleanup_close_ int fd = -EBADF;
        int r = mark_open(m, d, &fd);

        if (r < 0)
                return d->blocked ? 0 : r;
        r = pin_set(m->fanotify_fd, fd, name);
        return r < 0 ? r : 0;
}

int mark_pins_set(Mark *m, Failure *reterr) {
        int r = 0;

        (void) fd_close(m->fanotify_fd);
        m->fanotify_fd = pins_open();
        if (m->fanotify_fd < 0)
                return failure_set_errno(reterr, m->fanotify_fd, "cannot open fanotify");
        for (size_t i = 0; r >= 0 && i < m->n; i++)
                if (!m->items[i].is_out && !m->items[i].is_ready)
                        r = set_directory(m, m->items + i);
        if (r >= 0)
                r = mark_follow(m, set_moved);
        if (r == -EINVAL)
                return failure_set(
                        reterr, FAILURE_PRECONDITION, EOPNOTSUPP,
                        "this kernel cannot tell what is in use below a directory (evictable fanotify "
                        "marks, Linux 5.19), so method 'mark' is not safe; use method 'exchange'");
        return r < 0 ? failure_set_errno(reterr, r, "cannot mark entries with fanotify") : 0;
}

static bool is_user_of(const Blocker *b, const char *path) {
        return b->path ? path_startswith(b->path, path) != NULL : b->kind == BLOCKER_WATCH;
}

/* Who uses what is at path or below. Watches are among them only where is_entry: one on the directory itself
 * is no hindrance, and /proc does not tell where they are. "" when there is nobody. */
static int find_users(Mark *m, const char *path, bool is_entry, char ret[static USERS_TEXT_SIZE]) {
        size_t used = 0, n = 0;

        if (!m->has_users) {
                int r = blockers_find(m->context->overlay, NULL, NULL, &m->users);

                if (r < 0)
                        return r;
                m->has_users = true;
        }
        ret[0] = '\0';
        for (size_t i = 0; i < m->users.n; i++) {
                const Blocker *b = m->users.items + i;

                if (!is_user_of(b, path) || (b->kind == BLOCKER_WATCH && !is_entry))
                        continue;
                if (n++ < BLOCKERS_NAMED && used < USERS_TEXT_SIZE)
                        used += (size_t) snprintf(
                                ret + used, USERS_TEXT_SIZE - used, "%s%d (%s, %s)", n > 1 ? ", " : "",
                                (int) b->pid, b->command, blocker_kind_to_string(b->kind));
        }
        if (n > BLOCKERS_NAMED && used < USERS_TEXT_SIZE)
                (void) snprintf(ret + used, USERS_TEXT_SIZE - used, " and %zu more", n - BLOCKERS_NAMED);
        return 0;
}

static int block_used(Mark *m, MarkDirectory *d, const char *name) {
        _cleanup_free_ char *path = path_join(d->path, name);
        char users[USERS_TEXT_SIZE];
        int r = path ? find_users(m, path, /* is_entry= */ true, users) : -ENOMEM;

        if (r >= 0)
                mark_block(
                        d, DIRECTORY_PENDING, "'%s' is in use%s%s; it can be marked once that ends", path,
                        users[0] ? " by " : ", by something that /proc does not show", users);
        return r;
}

static int link_to_quarantine(const Mark *m, int fd, const char *name) {
        return linkat(fd, "", m->staging.quarantine.fd, name, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

/* The file is taken by its descriptor, so what is linked is what was found in memory. */
static int link_once(Mark *m, int dfd, const char *name) {
        _cleanup_close_ int fd = open_beneath(dfd, name, O_PATH | O_NOFOLLOW);
        char link[16];
        int r;

        if (fd < 0)
                return fd;
        staging_new_name(&m->staging, link);
        r = link_to_quarantine(m, fd, link);
        if (r == -EXDEV && redirect_max_raise(&m->context->redirect_max_hold) >= 0)
                r = link_to_quarantine(m, fd, link);
        if (r < 0)
                return r;
        return unlinkat(m->staging.quarantine.fd, link, 0) < 0 ? -errno : 0;
}

static int check_child(Mark *m, MarkDirectory *d, int fd, const char *name, bool is_directory) {
        int r = has_pin(m, fd, name);

        if (r <= 0 || d->blocked)
                return r;
        if (!is_directory)
                r = link_once(m, fd, name);
        if (!is_directory && r >= 0)
                return 0;
        return block_used(m, d, name);
}

static int check_self(Mark *m, MarkDirectory *d, int fd) {
        char users[USERS_TEXT_SIZE];
        int r = has_pin(m, fd, ".");

        if (r <= 0 || d->blocked)
                return r;
        r = find_users(m, d->path, /* is_entry= */ false, users);
        if (r >= 0 && users[0])
                mark_block(
                        d, DIRECTORY_PENDING, "it is in use by %s; it can be marked once that ends", users);
        return r;
}

static int check_directory(Mark *m, MarkDirectory *d) {
        _cleanup_close_ int fd = -EBADF;
        int r = mark_open(m, d, &fd);

        if (r < 0)
                return d->blocked ? 0 : r;
        r = foreach_child(m, d, fd, check_child);
        return r < 0 ? r : check_self(m, d, fd);
}

int mark_pins_check_moved(Mark *m, MarkDirectory *d, const char *name) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        _cleanup_close_ int fd = -EBADF;
        int r = m->n_pins == 0 || d->is_ready ? 0 : upper_entry_read(d->upper_fd, name, &e);

        if (r < 0 || !upper_entry_is_merge_child(&e))
                return r;
        r = mark_open(m, d, &fd);
        if (r < 0)
                return d->blocked ? 0 : r;
        return check_child(m, d, fd, name, e.type == DT_DIR);
}

int mark_pins_check(Mark *m, Failure *reterr) {
        int r = pins_forget_unused(m->fanotify_fd, m->context->root_fd, reterr);

        m->n_pins = r > 0 ? r : 0;

        blockers_done(&m->users);
        m->has_users = false;
        if (r < 0)
                return failure_set_errno(reterr, r, "cannot read which marks are left");
        for (size_t i = 0; r > 0 && i < m->n; i++) {
                MarkDirectory *d = m->items + i;
                int k = d->is_out || d->is_ready ? 0 : check_directory(m, d);

                if (k < 0)
                        return failure_set_errno(
                                reterr, k, "cannot see what uses '%s/%s'", m->context->overlay->mount_point,
                                d->path);
        }
        return 0;
}
