/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* New lower names come into a finalized directory as they do when it is finalized: linked out of a directory
 * that is merged with the lower one. That one is made in staging as for an undo (undo.c), with every other
 * lower name covered, so that nothing but the new ones is ever looked up in it. */
#include <fcntl.h>
#include <string.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/context/orphan.h"
#include "core/context/throttle.h"
#include "core/release/refresh-internal.h"
#include "core/state/audit.h"
#include "core/upper/digest.h"
#include "core/upper/fileattr.h"
#include "core/upper/meta.h"
#include "core/upper/raw.h"
#include "core/upper/redirect-max.h"

int refresh_open_staging(RefreshDirectory *d) {
        int r;

        if (d->staging.context)
                return 0;
        r = staging_create(d->p->context, &d->staging, d->reterr);
        /* What is made there is to stand in the directory. */
        return r < 0 ? r : fileattr_hand_on(d->pair.fd, d->staging.dir.fd);
}

int refresh_drop_copy(const RefreshDirectory *d) {
        return orphan_remove_tree(d->p->context->root_fd, d->staging.dir, REFRESH_COPY);
}

typedef struct Cover {
        const RefreshDirectory *d;
        int fd;
} Cover;

/* Out of the view come new names, and directories that took the place of something else. */
static bool is_wanted(const RefreshChange *c) {
        return c->kind == DIFFERENCE_NEW || (c->kind == DIFFERENCE_CHANGED && S_ISDIR(c->st.st_mode));
}

static int cover(int dfd, const char *name, unsigned char type, void *userdata) {
        const Cover *c = userdata;

        for (size_t i = 0; i < c->d->n; i++)
                if (is_wanted(c->d->items + i) && strcmp(c->d->items[i].name, name) == 0)
                        return 0;
        return raw_make_whiteout(c->fd, name);
}

static bool is_here(const RefreshDirectory *d, const char *name) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };

        return upper_entry_read(d->pair.upper_fd, name, &e) < 0 ||
                (e.class != UPPER_MISSING && e.class != UPPER_WHITEOUT);
}

/* The metadata of files comes up before they are linked, and is on disk then: some file systems (btrfs)
 * write a new name for whoever syncs its directory, but the file behind it as an empty one. What cannot be
 * copied up is told when it is linked. */
static int copy_up_wanted(RefreshDirectory *d) {
        for (size_t i = 0; i < d->n; i++) {
                const RefreshChange *c = d->items + i;

                if (!is_wanted(c) || S_ISDIR(c->st.st_mode) || is_here(d, c->name))
                        continue;
                if (context_is_canceled(d->p->context))
                        return -ECANCELED;
                throttle_wait(d->p->context->throttle, d->p->context, 1);
                (void) meta_copy_up_at(d->view_fd, c->name, &c->st);
        }
        return refresh_make_durable(d);
}

/* Makes the staging directory, and in it the view of the lower directory in which all names but the new ones
 * are covered. */
static int open_view(RefreshDirectory *d) {
        _cleanup_close_ int lower_fd = -EBADF, fd = -EBADF;
        Cover c = { .d = d };
        int r;

        if (d->view_fd >= 0)
                return 0;
        /* The kernel merges a lower directory once (docs/overlayfs.md 4.1): an old tree that is still there
         * has it. */
        r = audit_check_old_trees(d->p->context, d->node->lower, d->reterr);
        d->is_occupied = r == -EBUSY;
        if (r >= 0)
                r = refresh_open_staging(d);
        if (r < 0)
                return r;
        lower_fd = lower_open_dir(d->p->lower, d->node->lower);
        if (lower_fd < 0)
                return lower_fd;
        c.fd = fd = raw_make_merged(d->staging.dir.upper_fd, STAGING_TREE, d->node->lower);
        if (fd < 0)
                return fd;
        r = dir_foreach(lower_fd, cover, &c);
        if (r < 0)
                return r;
        d->view_fd = open_dir_beneath(d->staging.dir.fd, STAGING_TREE);
        r = d->view_fd < 0 ? d->view_fd : copy_up_wanted(d);
        if (r < 0)
                d->view_fd = fd_close(d->view_fd);
        return r;
}

static int link_raised(RefreshDirectory *d, int from_fd, const char *name, int to_fd) {
        if (linkat(from_fd, name, to_fd, name, 0) >= 0)
                return 0;
        if (errno != EXDEV || redirect_max_raise(&d->p->context->redirect_max_hold) < 0)
                return -errno;
        return linkat(from_fd, name, to_fd, name, 0) < 0 ? -errno : 0;
}

typedef struct Rebuild {
        RefreshDirectory *d;
        int from_fd, to_fd;
} Rebuild;

static int rebuild(RefreshDirectory *d, int from_fd, int to_fd);

static int rebuild_entry(int dfd, const char *name, unsigned char type, void *userdata) {
        const Rebuild *b = userdata;
        _cleanup_close_ int from_fd = -EBADF, to_fd = -EBADF;

        if (context_is_canceled(b->d->p->context))
                return -ECANCELED;
        if (type != DT_DIR)
                return link_raised(b->d, b->from_fd, name, b->to_fd);
        if (mkdirat(b->to_fd, name, 0700) < 0)
                return -errno;
        from_fd = open_dir_beneath(b->from_fd, name);
        to_fd = open_dir_beneath(b->to_fd, name);
        return from_fd < 0 ? from_fd : to_fd < 0 ? to_fd : rebuild(b->d, from_fd, to_fd);
}

static int rebuild(RefreshDirectory *d, int from_fd, int to_fd) {
        Rebuild b = { .d = d, .from_fd = from_fd, .to_fd = to_fd };
        int r = dir_foreach(from_fd, rebuild_entry, &b);

        if (r >= 0)
                r = meta_copy(from_fd, to_fd);
        if (r >= 0)
                r = fileattr_copy_up(from_fd, to_fd);
        return r < 0 ? r : meta_copy_times(from_fd, to_fd);
}

int refresh_build_directory(RefreshDirectory *d, const RefreshChange *c) {
        _cleanup_close_ int from_fd = -EBADF, to_fd = -EBADF;
        int r = open_view(d);

        if (r >= 0)
                r = from_fd = open_dir_beneath(d->view_fd, c->name);
        if (r < 0)
                return r;
        if (mkdirat(d->staging.dir.fd, REFRESH_COPY, 0700) < 0)
                return -errno;
        to_fd = open_dir_beneath(d->staging.dir.fd, REFRESH_COPY);
        r = to_fd < 0 ? to_fd : rebuild(d, from_fd, to_fd);
        return r < 0 ? r : refresh_make_durable(d);
}

/* Nobody sees it before it is whole. */
static int take_directory(RefreshDirectory *d, const RefreshChange *c) {
        int r = refresh_build_directory(d, c);

        if (r >= 0 && renameat2(d->staging.dir.fd, REFRESH_COPY, d->pair.fd, c->name, RENAME_NOREPLACE) < 0)
                r = -errno;
        if (r < 0 && d->staging.context)
                (void) refresh_drop_copy(d);
        return r;
}

static bool is_made_of(const RefreshChange *c, const UpperEntry *e) {
        return e->class == UPPER_METACOPY && upper_entry_has_absolute_redirect(e) &&
                strcmp(e->redirect + 1, c->lower) == 0;
}

enum { MADE_UNTOLD, MADE_OF_IT, MADE_OF_ANOTHER };

typedef struct MadeOf {
        const char *lower;
        int answer; /* a MADE_, or an error */
} MadeOf;

static int directory_made_of(int upper_fd, const char *lower);

static int child_made_of(int dfd, const char *name, unsigned char type, void *userdata) {
        _cleanup_free_ char *lower = NULL;
        _cleanup_close_ int fd = -EBADF;
        MadeOf *m = userdata;

        if (type != DT_DIR)
                return 0;
        lower = path_join(m->lower, name);
        fd = open_dir_beneath(dfd, name);
        if (!lower || fd < 0)
                return lower ? fd : -ENOMEM;
        m->answer = directory_made_of(fd, lower);
        return m->answer == MADE_UNTOLD ? 0 : WALK_ENOUGH;
}

/* The first file anywhere below says of what it was made. A MADE_, or an error. */
static int directory_made_of(int upper_fd, const char *lower) {
        MadeOf m = { .lower = lower };
        _cleanup_free_ char *guess = NULL;
        int r = audit_guess_lower(upper_fd, &guess);

        if (r >= 0)
                return strcmp(guess, lower) == 0 ? MADE_OF_IT : MADE_OF_ANOTHER;
        if (r == -ENODATA)
                r = dir_foreach(upper_fd, child_made_of, &m);
        return r < 0 && r != WALK_ENOUGH ? r : m.answer;
}

/* What was made of the very lower entry, before a crash, and is not recorded. To look that up once more in a
 * view would be an alias of it, which the kernel refuses (docs/overlayfs.md 4.2). */
static bool is_taken(const RefreshDirectory *d, const RefreshChange *c, const UpperEntry *e) {
        _cleanup_close_ int fd = -EBADF;
        struct stat st;

        if (e->class == UPPER_METACOPY)
                return is_made_of(c, e);
        if (e->type != DT_DIR)
                return fstatat(d->pair.upper_fd, c->name, &st, AT_SYMLINK_NOFOLLOW) >= 0 &&
                        digest_stat(&st) == digest_stat(&c->st);
        fd = open_dir_beneath(d->pair.upper_fd, c->name);
        return fd >= 0 && directory_made_of(fd, c->lower) == MADE_OF_IT;
}

/* 1: the name is in use here. */
static int adopt(RefreshDirectory *d, RefreshChange *c) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        int r = upper_entry_read(d->pair.upper_fd, c->name, &e);

        if (r < 0 || e.class == UPPER_MISSING || e.class == UPPER_WHITEOUT)
                return errno_is_gone(r) ? 0 : r;
        /* A crash came in between when it was to be replaced. */
        if (is_made_of(c, &e) && e.type != IFTODT(c->st.st_mode))
                return orphan_remove(d->p->context->root_fd, d->pair, c->name, e.inode);
        c->is_done = true;
        c->is_local = !is_taken(d, c, &e);
        if (c->is_local)
                refresh_note(
                        d, c->name,
                        "it is new in the lower layer, and was made here as well: the one here stays");
        return 1;
}

int refresh_take(RefreshDirectory *d, RefreshChange *c) {
        int r = adopt(d, c);

        if (r == 0)
                r = open_view(d);
        else
                return r < 0 ? r : 0;
        if (r < 0)
                return r;
        r = S_ISDIR(c->st.st_mode) ? take_directory(d, c) : link_raised(d, d->view_fd, c->name, d->pair.fd);
        if (r == -EEXIST) { /* made here just now */
                r = adopt(d, c);
                return r < 0 ? r : 0;
        }
        if (r == -ENOENT) /* gone again */
                return 0;
        if (r == -ESTALE) {
                refresh_note(
                        d, c->name,
                        "the kernel has it in use elsewhere, under another name perhaps: refresh again "
                        "later");
                return 0;
        }
        c->is_done = r >= 0;
        return r < 0 ? failure_set_errno(d->reterr, r, "cannot take '/%s' from the lower layer", c->lower)
                     : 0;
}
