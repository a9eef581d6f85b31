/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/staging.h"

#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>

#include "base/fs-util.h"
#include "core/layer.h"
#include "core/times.h"

static const char *const root_names[] = { STAGING_NAME, NULL };

static int check_base_is_ours(const Site *site, int base_fd, Failure *reterr) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        struct stat st;
        int r;

        if (fstat(base_fd, &st) < 0)
                return -errno;
        if (st.st_uid != 0 || (st.st_mode & 07777) != 0700)
                return failure_set(reterr, FAILURE_PRECONDITION, EPERM,
                                   "'%s/%s' is not ours (it must belong to root with mode 0700); rename or remove it",
                                   site->overlay->mount_point, STAGING_NAME);
        r = upper_entry_read(site->upper_fd, STAGING_NAME, &e);
        if (r < 0)
                return failure_set_errno(reterr, r, "cannot read '%s/%s'", site->overlay->upper, STAGING_NAME);
        if (e.class == UPPER_MISSING)
                return failure_set(reterr, FAILURE_PRECONDITION, EXDEV,
                                   "'%s' is not the upper layer of '%s': a directory made through the overlay does not "
                                   "appear there; set UpperDir= to where the upper layer stands now",
                                   site->overlay->upper, site->overlay->mount_point);
        if (e.class != UPPER_OPAQUE)
                return failure_set(reterr, FAILURE_PRECONDITION, EEXIST,
                                   "a lower layer of '%s' holds a directory '%s'; remove it there",
                                   site->overlay->mount_point, STAGING_NAME);
        return 0;
}

static int open_base(const Site *site, bool create, int *ret, Failure *reterr) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        if (create) {
                TimesGuard guard;
                int error;

                times_guard_begin(&guard, site->root_fd);
                error = mkdirat(site->root_fd, STAGING_NAME, 0700) < 0 ? errno : 0;
                times_guard_end(&guard, root_names);
                if (error != 0 && error != EEXIST)
                        return failure_set_errno(reterr, -error, "cannot make the staging directory '%s/%s'",
                                                 site->overlay->mount_point, STAGING_NAME);
        }
        fd = open_dir_beneath(site->root_fd, STAGING_NAME);
        if (fd == -ENOENT)
                return create ? fd : 0;
        if (fd < 0)
                return failure_set_errno(reterr, fd, "cannot open the staging directory '%s/%s'",
                                         site->overlay->mount_point, STAGING_NAME);
        r = check_base_is_ours(site, fd, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_FD(fd);
        return 1;
}

static int open_work(Staging *s) {
        char path[sizeof(STAGING_NAME) + STAGING_ID_LENGTH + 1];

        s->dir_fd = open_dir_beneath(s->base_fd, s->id);
        if (s->dir_fd < 0)
                return s->dir_fd;
        if (flock(s->dir_fd, LOCK_EX | LOCK_NB) < 0)
                return errno == EWOULDBLOCK ? -EBUSY : -errno;
        (void) snprintf(path, sizeof(path), "%s/%s", STAGING_NAME, s->id);
        s->upper_fd = open_dir_beneath(s->site->upper_fd, path);
        return s->upper_fd < 0 ? s->upper_fd : 0;
}

static int make_dir(int dfd, const char *name, int *ret) {
        if (mkdirat(dfd, name, 0700) < 0 && errno != EEXIST)
                return -errno;
        *ret = open_dir_beneath(dfd, name);
        return *ret < 0 ? *ret : 0;
}

static int make_scratch(Staging *s, unsigned n) {
        s->scratch_fds = malloc(n * sizeof(int));
        if (!s->scratch_fds)
                return -ENOMEM;
        for (; s->n_scratch < n; s->n_scratch++) {
                char name[32];
                int r;

                (void) snprintf(name, sizeof(name), "scratch-%u", s->n_scratch);
                r = make_dir(s->dir_fd, name, s->scratch_fds + s->n_scratch);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int new_id(char *ret) {
        uint64_t random;

        if (getrandom(&random, sizeof(random), 0) != sizeof(random))
                return -EIO;
        (void) snprintf(ret, STAGING_ID_LENGTH + 1, "%016llx", (unsigned long long) random);
        return 0;
}

/* -ENOENT without a failure set: another worker removed the empty base in between. */
static int try_create(const Site *site, unsigned n_scratch, Staging *ret, Failure *reterr) {
        _cleanup_(staging_done) Staging s = STAGING_INIT;
        int r;

        s.site = site;
        r = open_base(site, /* create= */ true, &s.base_fd, reterr);
        if (r < 0)
                return r;
        r = new_id(s.id);
        if (r >= 0 && mkdirat(s.base_fd, s.id, 0700) < 0)
                r = -errno;
        if (r == -ENOENT)
                return r;
        if (r >= 0)
                r = open_work(&s);
        if (r >= 0)
                r = make_dir(s.dir_fd, "grave", &s.grave_fd);
        if (r >= 0)
                r = make_dir(s.dir_fd, "kept", &s.kept_fd);
        if (r >= 0)
                r = make_scratch(&s, n_scratch);
        if (r < 0) {
                (void) staging_remove(&s);
                return failure_set_errno(reterr, r, "cannot set up the staging directory of '%s'",
                                         site->overlay->mount_point);
        }
        *ret = s;
        s = STAGING_INIT;
        return 0;
}

int staging_create(const Site *site, unsigned n_scratch, Staging *ret, Failure *reterr) {
        int r;

        do
                r = try_create(site, n_scratch, ret, reterr);
        while (r == -ENOENT && (!reterr || reterr->kind == FAILURE_NONE));
        return r;
}

int staging_open(const Site *site, const char *id, Staging *ret, Failure *reterr) {
        _cleanup_(staging_done) Staging s = STAGING_INIT;
        int r;

        s.site = site;
        if (strlen(id) != STAGING_ID_LENGTH)
                return failure_set(reterr, FAILURE_INVALID, EINVAL, "'%s/%s/%s' is not of our making",
                                   site->overlay->mount_point, STAGING_NAME, id);
        memcpy(s.id, id, STAGING_ID_LENGTH + 1);
        r = open_base(site, /* create= */ false, &s.base_fd, reterr);
        if (r < 0)
                return r;
        r = r == 0 ? -ENOENT : open_work(&s);
        if (r >= 0)
                r = make_dir(s.dir_fd, "grave", &s.grave_fd);
        if (r >= 0)
                r = make_dir(s.dir_fd, "kept", &s.kept_fd);
        if (r < 0)
                return failure_set_errno(reterr, r, "cannot open '%s/%s/%s'", site->overlay->mount_point, STAGING_NAME,
                                         id);
        *ret = s;
        s = STAGING_INIT;
        return 0;
}

void staging_done(Staging *s) {
        for (unsigned i = 0; i < s->n_scratch; i++)
                (void) fd_close(s->scratch_fds[i]);
        free(s->scratch_fds);
        (void) fd_close(s->kept_fd);
        (void) fd_close(s->grave_fd);
        (void) fd_close(s->upper_fd);
        (void) fd_close(s->dir_fd);
        (void) fd_close(s->base_fd);
        *s = STAGING_INIT;
}

static int remove_part(int dfd, const char *name, unsigned char type, void *userdata) {
        bool *has_kept = userdata;
        int r = 0;

        if (strcmp(name, "kept") == 0) {
                if (unlinkat(dfd, name, AT_REMOVEDIR) < 0 && errno == ENOTEMPTY)
                        *has_kept = true;
                return 0;
        }
        if (type == DT_DIR) {
                _cleanup_close_ int fd = open_dir_beneath(dfd, name);

                r = fd < 0 ? fd : dir_empty(fd);
        }
        if (r >= 0 && unlinkat(dfd, name, type == DT_DIR ? AT_REMOVEDIR : 0) < 0)
                r = -errno;
        return r == -ENOENT ? 0 : r;
}

static void remove_base(const Site *site) {
        TimesGuard guard;

        times_guard_begin(&guard, site->root_fd);
        (void) unlinkat(site->root_fd, STAGING_NAME, AT_REMOVEDIR); /* ENOTEMPTY: others work there */
        times_guard_end(&guard, root_names);
}

int staging_remove(Staging *s) {
        bool has_kept = false;
        int r = 0;

        if (s->dir_fd >= 0)
                r = dir_foreach(s->dir_fd, remove_part, &has_kept);
        if (r >= 0 && !has_kept && s->base_fd >= 0 && unlinkat(s->base_fd, s->id, AT_REMOVEDIR) < 0 && errno != ENOENT)
                r = -errno;
        if (s->base_fd >= 0)
                remove_base(s->site);
        return r < 0 ? r : has_kept;
}

typedef struct Walk {
        int (*func)(const char *id, void *userdata);
        void *userdata;
} Walk;

static int visit(int dfd, const char *name, unsigned char type, void *userdata) {
        Walk *w = userdata;

        if (type != DT_DIR || strlen(name) != STAGING_ID_LENGTH || strspn(name, "0123456789abcdef") != STAGING_ID_LENGTH)
                return 0;
        return w->func(name, w->userdata);
}

int staging_foreach(const Site *site, int (*func)(const char *id, void *userdata), void *userdata, Failure *reterr) {
        _cleanup_close_ int fd = -EBADF;
        Walk w = { .func = func, .userdata = userdata };
        int r = open_base(site, /* create= */ false, &fd, reterr);

        if (r <= 0)
                return r;
        r = dir_foreach(fd, visit, &w);
        remove_base(site); /* a crash may have left it empty */
        return r;
}

void staging_new_name(Staging *s, char ret[static 16]) {
        (void) snprintf(ret, 16, "%u", atomic_fetch_add(&s->n_buried, 1));
}

bool is_staging_name(const char *name) {
        size_t n = strlen(STAGING_NAME);

        return (strncmp(name, STAGING_NAME, n) == 0 && (name[n] == '\0' || name[n] == '/')) ||
                strncmp(name, OLD_TREE_PREFIX, strlen(OLD_TREE_PREFIX)) == 0;
}
