/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/context/staging.h"

#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>

#include "base/fs-util.h"
#include "base/str.h"
#include "core/context/error-scope.h"
#include "core/context/orphan.h"
#include "core/record/manifest.h"
#include "core/upper/fileattr.h"
#include "core/upper/layer.h"
#include "core/upper/names.h"
#include "core/upper/raw.h"
#include "core/upper/times.h"

static const char *const root_names[] = { STAGING_NAME, NULL };

static int check_base_is_ours(const Context *context, int base_fd, Failure *reterr) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        struct stat st;
        int r;

        if (fstat(base_fd, &st) < 0)
                return -errno;
        if (st.st_uid != 0 || (st.st_mode & 07777) != 0700)
                return failure_set(
                        reterr, FAILURE_PRECONDITION, EPERM,
                        "'%s/%s' is not ours (it must belong to root with mode 0700); rename or remove it",
                        context->overlay->mount_point, STAGING_NAME);
        r = upper_entry_read(context->upper_fd, STAGING_NAME, &e);
        if (r < 0)
                return failure_set_errno(
                        reterr, r, "cannot read '%s/%s'", context->overlay->upper, STAGING_NAME);
        if (e.class == UPPER_MISSING)
                return failure_set(
                        reterr, FAILURE_PRECONDITION, EXDEV,
                        "'%s' is not the upper layer of '%s': a directory made through the overlay does not "
                        "appear there; set UpperDir= to where the upper layer stands now",
                        context->overlay->upper, context->overlay->mount_point);
        if (e.class != UPPER_OPAQUE)
                return failure_set(
                        reterr, FAILURE_PRECONDITION, EEXIST,
                        "a lower layer of '%s' holds a directory '%s'; remove it there",
                        context->overlay->mount_point, STAGING_NAME);
        return 0;
}

static int open_base(const Context *context, bool create, int *ret, Failure *reterr) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        if (create) {
                TimesGuard guard;
                int error;

                times_guard_begin(&guard, context->root_fd);
                error = mkdirat(context->root_fd, STAGING_NAME, 0700) < 0 ? errno : 0;
                times_guard_end(&guard, root_names);
                if (error != 0 && error != EEXIST)
                        return failure_set_errno(
                                reterr, -error, "cannot make the staging directory '%s/%s'",
                                context->overlay->mount_point, STAGING_NAME);
        }
        fd = open_dir_beneath(context->root_fd, STAGING_NAME);
        if (fd == -ENOENT)
                return create ? fd : 0;
        if (fd < 0)
                return failure_set_errno(
                        reterr, fd, "cannot open the staging directory '%s/%s'",
                        context->overlay->mount_point, STAGING_NAME);
        r = check_base_is_ours(context, fd, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_FD(fd);
        return 1;
}

static int open_work(Staging *s) {
        char path[sizeof(STAGING_NAME) + STAGING_ID_LENGTH + 1];

        s->dir.fd = open_dir_beneath(s->base_fd, s->id);
        if (s->dir.fd < 0)
                return s->dir.fd;
        if (flock(s->dir.fd, LOCK_EX | LOCK_NB) < 0)
                return errno == EWOULDBLOCK ? -EBUSY : -errno;
        (void) snprintf(path, sizeof(path), "%s/%s", STAGING_NAME, s->id);
        s->dir.upper_fd = open_dir_beneath(s->context->upper_fd, path);
        return s->dir.upper_fd < 0 ? s->dir.upper_fd : 0;
}

int staging_new_id(char ret[static STAGING_ID_LENGTH + 1]) {
        uint64_t random;

        if (getrandom(&random, sizeof(random), 0) != sizeof(random))
                return -EIO;
        (void) snprintf(ret, STAGING_ID_LENGTH + 1, "%016llx", (unsigned long long) random);
        return 0;
}

/* If it is, and the upper does not have it, the upper is not this mount's. */
static bool is_there(const Staging *s) {
        return faccessat(s->base_fd, s->id, F_OK, AT_SYMLINK_NOFOLLOW) >= 0;
}

/* -ENOENT without a failure set: another worker removed the base in between, or took what we made for
 * something left. */
static int try_create(const Context *context, Staging *ret, Failure *reterr) {
        _cleanup_(staging_done) Staging s = STAGING_INIT;
        int r;

        s.context = context;
        r = open_base(context, /* create= */ true, &s.base_fd, reterr);
        if (r < 0)
                return r;
        r = staging_new_id(s.id);
        if (r >= 0 && mkdirat(s.base_fd, s.id, 0700) < 0)
                r = -errno;
        if (r >= 0)
                r = open_work(&s);
        if (r == -EBUSY || (r == -ENOENT && !is_there(&s)))
                return -ENOENT;
        if (r >= 0) /* entries of any project pass through */
                r = fileattr_hand_on(-EBADF, s.dir.fd);
        if (r >= 0)
                r = pair_make(s.dir, STAGING_QUARANTINE, &s.quarantine);
        if (r >= 0)
                r = pair_make(s.dir, STAGING_KEPT, &s.kept);
        if (r < 0) {
                (void) staging_remove(&s);
                return failure_set_errno(
                        reterr, r, "cannot set up the staging directory of '%s'",
                        context->overlay->mount_point);
        }
        *ret = TAKE_AS(s, STAGING_INIT);
        return 0;
}

int staging_create(const Context *context, Staging *ret, Failure *reterr) {
        int r;

        do
                r = try_create(context, ret, reterr);
        while (r == -ENOENT && (!reterr || reterr->kind == FAILURE_NONE));
        return r;
}

static int find_highest(int dfd, const char *name, unsigned char type, void *userdata) {
        unsigned long *highest = userdata, n = strtoul(name, NULL, 10);

        if (n > *highest)
                *highest = n;
        return 0;
}

/* The names a crash left in the quarantine and in kept/ stay theirs. */
static int number_after_existing(Staging *s) {
        unsigned long highest = 0;
        int r = dir_foreach(s->quarantine.fd, find_highest, &highest);

        if (r >= 0)
                r = dir_foreach(s->kept.fd, find_highest, &highest);
        atomic_store(&s->next_name, (unsigned) highest + 1);
        return r;
}

int staging_open(const Context *context, const char *id, Staging *ret, Failure *reterr) {
        _cleanup_(staging_done) Staging s = STAGING_INIT;
        int r;

        s.context = context;
        if (!is_staging_id(id))
                return failure_set(
                        reterr, FAILURE_INVALID, EINVAL, "'%s/%s/%s' is not of our making",
                        context->overlay->mount_point, STAGING_NAME, id);
        memcpy(s.id, id, STAGING_ID_LENGTH + 1);
        r = open_base(context, /* create= */ false, &s.base_fd, reterr);
        if (r < 0)
                return r;
        r = r == 0 ? -ENOENT : open_work(&s);
        if (r >= 0)
                r = pair_make(s.dir, STAGING_QUARANTINE, &s.quarantine);
        if (r >= 0)
                r = pair_make(s.dir, STAGING_KEPT, &s.kept);
        if (r >= 0)
                r = number_after_existing(&s);
        if (r < 0)
                return failure_set_errno(
                        reterr, r, "cannot open '%s/%s/%s'", context->overlay->mount_point, STAGING_NAME,
                        id);
        *ret = TAKE_AS(s, STAGING_INIT);
        return 0;
}

void staging_done(Staging *s) {
        free(s->tree_handle);
        pair_done(&s->kept);
        pair_done(&s->quarantine);
        pair_done(&s->dir);
        (void) fd_close(s->base_fd);
        *s = STAGING_INIT;
}

int staging_own_tree(Staging *s, const char *handle) {
        return str_replace(&s->tree_handle, handle);
}

int staging_move_to_kept(Staging *s, int dfd, const char *name, char ret[static 16]) {
        do {
                staging_new_name(s, ret);
                if (renameat2(dfd, name, s->kept.fd, ret, RENAME_NOREPLACE) >= 0)
                        return 1;
        } while (errno == EEXIST);
        return errno == ENOENT ? 0 : -errno;
}

static int move_part_to_kept(Staging *s, int dfd, const char *name, const char *why) {
        char kept[16];
        int r = staging_move_to_kept(s, dfd, name, kept);

        if (r > 0)
                context_note(
                        s->context, "", "%s; it is kept as '%s/%s/%s/kept/%s'", why,
                        s->context->overlay->mount_point, STAGING_NAME, s->id, kept);
        return r < 0 ? r : 0;
}

static int move_quarantined_to_kept(int dfd, const char *name, unsigned char type, void *userdata) {
        return move_part_to_kept(
                userdata, dfd, name, "something was taken out of a directory and may be somebody's");
}

static bool is_own_tree(const Staging *s) {
        _cleanup_free_ char *handle = NULL;

        if (!s->tree_handle)
                return !s->is_published;
        return file_handle_at(s->dir.upper_fd, STAGING_TREE, &handle) >= 0 &&
                strcmp(handle, s->tree_handle) == 0;
}

static int remove_directory(Staging *s, int dfd, const char *name) {
        _cleanup_close_ int fd = open_dir_beneath(dfd, name);
        int r = fd < 0 ? fd : dir_empty(fd);

        if (r >= 0 && unlinkat(dfd, name, AT_REMOVEDIR) < 0)
                r = -errno;
        /* What the kernel refuses to look up, listings leave out where they look it up
         * (xino; docs/overlayfs.md 4.7). Nobody but us has been in a tree that was not published. */
        if (strcmp(name, STAGING_TREE) == 0 && (r == -ESTALE || (r == -ENOTEMPTY && !s->is_published)))
                r = raw_discard_tree(s->dir.upper_fd, name);
        return r;
}

/* A merged directory of what we have built cannot be listed; all else is removed by now. The kernel forgets
 * what it knows of it with the directory around it. */
static bool is_denied_view(const Staging *s, int r) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };

        return !s->is_published && error_scope(s->context, CALL_READ, r) == SCOPE_ENTRY &&
                upper_entry_read(s->dir.upper_fd, STAGING_TREE, &e) >= 0 && e.class == UPPER_REDIRECT;
}

static int remove_part(int dfd, const char *name, unsigned char type, void *userdata) {
        Staging *s = userdata;
        bool is_denied;
        int r = 0;

        if (strcmp(name, STAGING_KEPT) == 0 || strcmp(name, STAGING_SNAPSHOT) == 0)
                return 0; /* last */
        if (strcmp(name, STAGING_TREE) == 0 && !is_own_tree(s))
                return move_part_to_kept(
                        s, dfd, name,
                        "a directory was put in the place of the one that was being exchanged");
        if (strcmp(name, STAGING_REPLACED) == 0)
                return move_part_to_kept(s, dfd, name, "something was replaced, and may be somebody's");
        if (strcmp(name, STAGING_QUARANTINE) == 0 && s->is_published)
                r = dir_foreach(s->quarantine.fd, move_quarantined_to_kept, s);
        if (r >= 0 && type == DT_DIR)
                r = remove_directory(s, dfd, name);
        else if (r >= 0 && unlinkat(dfd, name, 0) < 0)
                r = -errno;
        is_denied = r < 0 && strcmp(name, STAGING_TREE) == 0 && is_denied_view(s, r);
        if (r == -EIO) /* the lower files are gone */
                r = orphan_remove_tree(s->context->root_fd, s->dir, name);
        if (r < 0 && is_denied)
                r = raw_discard_tree(s->dir.upper_fd, name);
        return r == -ENOENT ? 0 : r;
}

static int remove_work(Staging *s) {
        int r = dir_foreach(s->dir.fd, remove_part, s);

        /* Where listing looks up what it lists (xino), a tree that the kernel refuses hides the rest. */
        if (r == -ESTALE && is_own_tree(s) && raw_discard_tree(s->dir.upper_fd, STAGING_TREE) >= 0)
                r = dir_foreach(s->dir.fd, remove_part, s);
        if (r < 0)
                return r;
        /* Without it a later start would take what is there for ours. */
        if (unlinkat(s->dir.fd, STAGING_SNAPSHOT, 0) < 0 && errno != ENOENT)
                return -errno;
        if (unlinkat(s->dir.fd, STAGING_KEPT, AT_REMOVEDIR) < 0 && errno == ENOTEMPTY)
                return 1;
        return unlinkat(s->base_fd, s->id, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

static void remove_base(const Context *context) {
        TimesGuard guard;

        times_guard_begin(&guard, context->root_fd);
        (void) unlinkat(context->root_fd, STAGING_NAME, AT_REMOVEDIR); /* ENOTEMPTY: others work there */
        times_guard_end(&guard, root_names);
}

int staging_remove(Staging *s) {
        int r = s->dir.fd >= 0 ? remove_work(s) : 0;

        if (s->base_fd >= 0)
                remove_base(s->context);
        return r;
}

int staging_read_snapshot(int dir_fd, Tree **ret) {
        int r = manifest_read(dir_fd, STAGING_SNAPSHOT_LAST, ret);

        return r == -ENOENT || r == -EBADMSG ? manifest_read(dir_fd, STAGING_SNAPSHOT, ret) : r;
}

#define WORK_PATH_MAX (sizeof(STAGING_NAME) + STAGING_ID_LENGTH + 1)

static const char *work_path(const char *id, char ret[static WORK_PATH_MAX]) {
        (void) snprintf(ret, WORK_PATH_MAX, STAGING_NAME "/%s", id);
        return ret;
}

int staging_read_snapshot_of(const Context *context, const char *id, Tree **ret) {
        char path[WORK_PATH_MAX];
        _cleanup_close_ int fd = open_dir_beneath(context->upper_fd, work_path(id, path));

        return fd < 0 ? fd : staging_read_snapshot(fd, ret);
}

bool staging_is_gone(const Context *context, const char *id) {
        char path[WORK_PATH_MAX];

        return faccessat(context->upper_fd, work_path(id, path), F_OK, AT_SYMLINK_NOFOLLOW) < 0 &&
                errno == ENOENT;
}

typedef struct Walk {
        staging_func func;
        void *userdata;
} Walk;

static int visit(int dfd, const char *name, unsigned char type, void *userdata) {
        Walk *w = userdata;

        if (type != DT_DIR || !is_staging_id(name))
                return 0;
        return w->func(name, w->userdata);
}

int staging_foreach(const Context *context, staging_func func, void *userdata, Failure *reterr) {
        _cleanup_close_ int fd = -EBADF;
        Walk w = { .func = func, .userdata = userdata };
        int r = open_base(context, /* create= */ false, &fd, reterr);

        if (r <= 0)
                return r;
        r = dir_foreach(fd, visit, &w);
        remove_base(context); /* a crash may have left it empty */
        return r;
}

void staging_new_name(Staging *s, char ret[static 16]) {
        (void) snprintf(ret, 16, "%u", atomic_fetch_add(&s->next_name, 1));
}
