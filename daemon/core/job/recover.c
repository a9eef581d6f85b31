/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/job/recover.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "base/str.h"
#include "core/exchange/exchange-internal.h"
#include "core/release/refresh-aside.h"
#include "core/upper/names.h"

/* Where one of the two trees stands now. */
typedef struct Place {
        char *path; /* in the overlay; NULL: gone */
        bool is_staged;
        bool is_beside; /* of its directory, under our name */
} Place;

static void place_done(Place *p) {
        free(p->path);
}

static int find_place(const Exchange *x, const char *handle, Place *ret) {
        _cleanup_free_ char *staged = NULL;
        _cleanup_close_ int fd = -EBADF;

        if (!handle)
                return -EBADMSG;
        staged = str_format(STAGING_NAME "/%s/" STAGING_TREE, x->staging.id);
        if (!staged)
                return -ENOMEM;
        fd = file_handle_open(x->context->upper_fd, handle, &ret->path);
        if (fd == -ESTALE || fd == -ENOENT || fd == -EXDEV)
                return 0;
        if (fd < 0)
                return fd;
        ret->is_staged = strcmp(ret->path, staged) == 0;
        ret->is_beside = strcmp(path_basename(ret->path), x->beside.name) == 0;
        return 0;
}

static int watch_again(Node *n, void *userdata) {
        Exchange *x = userdata;
        _cleanup_close_ int fd = node_open(n, x->old.fd);

        return fd < 0 ? 0 : watch_add(x, n, fd);
}

/* Names missing while the old tree was being removed were removed by us. */
static int excuse_missing(Node *n, void *userdata) {
        Exchange *x = userdata;
        _cleanup_close_ int fd = node_open(n, x->old.upper_fd);

        ENTRY_FOREACH (n, e) { /* what is in a directory that left, its new place tells */
                struct stat st;

                if (fd >= 0 &&
                    (fstatat(fd, e->name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
                     (S_ISCHR(st.st_mode) && st.st_rdev == 0)))
                        e->is_placed = false;
        }
        return 0;
}

/* The directory in which the old tree stands, or is to stand for those who are in it; NULL: there is none
 * any more. */
static int open_around(Exchange *x, const char *path) {
        _cleanup_free_ char *parent = path ? path_dirname(path) : NULL;

        if (!path)
                return 0;
        return parent ? pair_open(context_root(x->context), parent, &x->parent) : -ENOMEM;
}

static int resume(Exchange *x, const Place *old, const Place *new) {
        int r;

        x->phase = PHASE_EXCHANGED;
        x->is_resumed = x->kept.may_be_shown = true;
        x->beside.is_there = old->is_beside;
        /* What was removed since by those who stand there is not told from what was under way. */
        x->kept.is_theirs = x->beside.is_there ||
                faccessat(x->staging.dir.fd, STAGING_BESIDE, F_OK, AT_SYMLINK_NOFOLLOW) >= 0;
        r = pair_open(context_root(x->context), old->path, &x->old);
        if (r >= 0 && new->path)
                r = pair_open(context_root(x->context), new->path, &x->new);
        if (r >= 0)
                r = open_around(x, old->is_beside ? old->path : new->path);
        if (r >= 0)
                r = watch_open(x);
        if (r >= 0)
                r = tree_foreach(x->tree, watch_again, x);
        if (r >= 0 && faccessat(x->staging.dir.fd, STAGING_REMOVE, F_OK, AT_SYMLINK_NOFOLLOW) >= 0) {
                x->phase = PHASE_REMOVE;
                if (!x->kept.is_theirs)
                        r = tree_foreach(x->tree, excuse_missing, x);
        }
        /* With the tree as it was when we were killed: what was on its way out then is known by it. */
        if (r >= 0)
                r = quarantine_clear(x, /* is_final= */ false);
        return r < 0 ? r : reconcile_all(x);
}

static int recover(Exchange *x) {
        _cleanup_(place_done) Place old = { 0 }, new = { 0 };
        int r = staging_read_snapshot(x->staging.dir.fd, &x->tree);

        /* Not prepared. What was damaged since may have been exchanged: it is kept. */
        x->staging.is_published = r == -EBADMSG;
        if (r == -ENOENT || r == -EBADMSG) {
                r = aside_recover(&x->staging);
                return r < 0 ? r : staging_remove(&x->staging);
        }
        if (r >= 0)
                r = find_place(x, x->tree->root->old_handle, &old);
        if (r >= 0)
                r = find_place(x, x->tree->root->new_handle, &new);
        if (r < 0)
                return r;
        /* Not exchanged. Under our name beside a directory users see it, too: one of them put it there. */
        if (new.is_staged)
                return staging_remove(&x->staging);
        x->staging.is_published = true;
        if (!old.is_staged && !old.is_beside) { /* removed already, all but the directory around it */
                r = quarantine_clear(x, /* is_final= */ true);
                return r < 0 ? r : staging_remove(&x->staging);
        }
        return resume(x, &old, &new);
}

int recover_one(Context *context, const char *id, Exchange **ret_kept, Failure *reterr) {
        _cleanup_(exchange_freep) Exchange *x = exchange_new(context);
        int r;

        if (!x)
                return -ENOMEM;
        r = staging_open(context, id, &x->staging, reterr);
        if (r == -ENOENT) { /* its worker has ended meanwhile */
                failure_done(reterr);
                return 0;
        }
        if (r < 0)
                return r;
        x->beside.name = str_format(OLD_TREE_PREFIX "%s", id);
        if (!x->beside.name)
                return -ENOMEM;
        r = recover(x);
        if (r < 0)
                return failure_set_errno(
                        reterr, r, "cannot finish the work that a crash left in '%s/%s/%s'",
                        context->overlay->mount_point, STAGING_NAME, id);
        if (x->phase >= PHASE_EXCHANGED && x->old.fd >= 0)
                *ret_kept = TAKE_PTR(x);
        return 0;
}
