/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/job/reset.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/context/staging.h"
#include "core/upper/digest.h"
#include "core/upper/layer.h"
#include "core/upper/names.h"

#define BLOCK_SIZE 65536

typedef struct Reset {
        const Context *context;
        const Lower *lower;
        uint64_t n_removed;
} Reset;

/* A directory of the upper. */
typedef struct Place {
        Reset *r;
        const char *path;
        const char *lower; /* the lower path it is merged with, NULL: none */
        bool is_shallow;   /* only directories that hold nothing are removed, and none is entered */
} Place;

/* An entry of it, and the lower one that would show in its place. */
typedef struct Pair {
        const Place *place;
        int upper_fd; /* of the directory */
        const char *name;
        const char *path;
        const UpperEntry *e;
        const char *lower;
        struct stat upper_st, lower_st;
} Pair;

/* The lower path of the entry itself, NULL for what needs none. */
static int find_lower(const Place *p, const char *name, const UpperEntry *e, char **ret) {
        *ret = NULL;
        if (e->class == UPPER_OPAQUE)
                return 0;
        if (e->class != UPPER_COMPLETE && upper_entry_has_absolute_redirect(e))
                *ret = strdup(e->redirect + 1);
        else if (p->lower)
                *ret = path_join(p->lower, e->class != UPPER_COMPLETE && e->redirect ? e->redirect : name);
        else
                return 0;
        return *ret ? 0 : -ENOMEM;
}

static bool has_same_attributes(const struct stat *a, const struct stat *b) {
        return a->st_mode == b->st_mode && a->st_uid == b->st_uid && a->st_gid == b->st_gid;
}

static bool has_same_file_attributes(const struct stat *a, const struct stat *b) {
        return a->st_size == b->st_size && a->st_rdev == b->st_rdev &&
                a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Also when they cannot be read, or when flags were set through the overlay ("protattr"). */
static bool has_own_xattrs(const Pair *x) {
        _cleanup_free_ char *flags = NULL;
        uint64_t digest = digest_xattrs(x->upper_fd, x->name);

        if (xattr_read_at(x->upper_fd, x->name, XATTR_PROTATTR, &flags) != -ENODATA)
                return true;
        return digest == 0 || digest != digest_xattrs(x->place->r->lower->view_fd, x->lower);
}

static ssize_t read_block(int fd, char *buffer, off_t offset) {
        ssize_t n = pread(fd, buffer, BLOCK_SIZE, offset);

        return n < 0 ? -errno : n;
}

/* 1 same, 0 not. */
static int compare_data(const Context *context, int a_fd, int b_fd) {
        _cleanup_free_ char *a = malloc(BLOCK_SIZE), *b = malloc(BLOCK_SIZE);
        off_t offset = 0;

        if (!a || !b)
                return -ENOMEM;
        for (;;) {
                ssize_t n = read_block(a_fd, a, offset), m = n < 0 ? n : read_block(b_fd, b, offset);

                if (m < 0)
                        return (int) m;
                if (context_is_canceled(context))
                        return -ECANCELED;
                if (n != m || memcmp(a, b, (size_t) n) != 0)
                        return 0;
                if (n == 0)
                        return 1;
                offset += n;
        }
}

static int compare_files(const Pair *x) {
        const int flags = O_RDONLY | O_NOFOLLOW | O_NOATIME;
        _cleanup_close_ int upper_fd = open_beneath(x->upper_fd, x->name, flags),
                            lower_fd = lower_open_file(x->place->r->lower, x->lower, O_NOATIME);

        if (upper_fd < 0 || lower_fd < 0)
                return upper_fd < 0 ? upper_fd : lower_fd;
        return compare_data(x->place->r->context, upper_fd, lower_fd);
}

static int compare_links(const Pair *x) {
        _cleanup_close_ int fd = open_beneath(x->place->r->lower->view_fd, x->lower, O_PATH | O_NOFOLLOW);
        char a[PATH_MAX], b[PATH_MAX];
        ssize_t n, m;

        if (fd < 0)
                return fd;
        n = readlinkat(x->upper_fd, x->name, a, sizeof(a));
        m = readlinkat(fd, "", b, sizeof(b));
        if (n < 0 || m < 0)
                return -errno;
        return n == m && memcmp(a, b, (size_t) n) == 0;
}

/* Whether nothing would look different without the entry: 1 yes, 0 no, negative: the lower does not tell. */
static int is_copy(Pair *x) {
        int r = lower_stat(x->place->r->lower, x->lower, &x->lower_st);

        if (r < 0)
                return r == -ENOENT ? 0 : r;
        if (fstatat(x->upper_fd, x->name, &x->upper_st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        if (!has_same_attributes(&x->upper_st, &x->lower_st))
                return 0;
        if (x->e->type != DT_DIR &&
            (x->e->n_links > 1 || !has_same_file_attributes(&x->upper_st, &x->lower_st)))
                return 0;
        if (has_own_xattrs(x))
                return 0;
        if (x->e->type == DT_REG && x->e->class != UPPER_METACOPY)
                return compare_files(x);
        return x->e->type == DT_LNK ? compare_links(x) : 1;
}

static int remove_copy(const Pair *x) {
        if (unlinkat(x->upper_fd, x->name, x->e->type == DT_DIR ? AT_REMOVEDIR : 0) < 0)
                return errno == ENOENT || errno == ENOTEMPTY ? 0 : -errno;
        x->place->r->n_removed++;
        return 0;
}

static int judge(Pair *x) {
        int r = is_copy(x);

        if (r == -ENOMEM || r == -ECANCELED)
                return r;
        if (r < 0)
                context_note(
                        x->place->r->context, x->path,
                        "it stays, since it cannot be compared with the lower layer: %s",
                        failure_errno_text(-r));
        return r <= 0 ? 0 : remove_copy(x);
}

static int reset_entries(const Place *p, int fd, const char *name);

static int descend(const Pair *x, const char *lower) {
        const Place below = { .r = x->place->r, .path = x->path, .lower = lower };
        _cleanup_close_ int fd = x->place->is_shallow ? -ENOENT : open_dir_beneath(x->upper_fd, x->name);

        if (fd < 0)
                return errno_is_gone(fd) ? 0 : fd;
        return reset_entries(&below, fd, NULL);
}

static int visit_entry(const Place *p, int fd, const char *name, const UpperEntry *e) {
        _cleanup_free_ char *path = path_join(p->path, name), *own = NULL,
                            *shows = p->lower ? path_join(p->lower, name) : NULL;
        Pair x = { .place = p, .upper_fd = fd, .name = name, .path = path, .e = e, .lower = shows };
        int r = path && (shows || !p->lower) ? find_lower(p, name, e, &own) : -ENOMEM;

        throttle_wait(p->r->context->throttle, p->r->context, 1);
        context_progress(p->r->context, JOB_APPLYING, p->r->n_removed, 0);
        if (r >= 0 && e->type == DT_DIR)
                r = descend(&x, own);
        if (r < 0 || !own || !shows || strcmp(own, shows) != 0)
                return r;
        return judge(&x);
}

static int visit(int fd, const char *name, unsigned char type, void *userdata) {
        const Place *p = userdata;
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        int r;

        if (context_is_canceled(p->r->context))
                return -ECANCELED;
        if (is_staging_name(name))
                return 0;
        r = upper_entry_read(fd, name, &e);
        if (r < 0 || e.class == UPPER_MISSING || e.class == UPPER_WHITEOUT)
                return r;
        return visit_entry(p, fd, name, &e);
}

/* name: NULL for all of them. Those who look at the directory's time see that nothing happened. */
static int reset_entries(const Place *p, int fd, const char *name) {
        uint64_t n_before = p->r->n_removed;
        struct stat st;
        int r = fstat(fd, &st) < 0 ? -errno : 0;

        if (r >= 0)
                r = name ? visit(fd, name, DT_UNKNOWN, (void *) p) : dir_foreach(fd, visit, (void *) p);
        if (p->r->n_removed != n_before)
                (void) futimens(fd, (struct timespec[2]){ st.st_atim, st.st_mtim });
        return r;
}

/* The entry at path. 0 also when the upper has none. */
static int reset_at(Reset *s, const char *path, bool is_shallow) {
        _cleanup_free_ char *parent = path_dirname(path), *lower = NULL;
        _cleanup_close_ int fd = parent ? open_dir_beneath(s->context->upper_fd, parent) : -ENOMEM;
        Place p = { .r = s, .path = parent, .is_shallow = is_shallow };
        bool in_upper;
        int r = fd < 0 ? fd : upper_lower_path(s->context->upper_fd, parent, &lower, &in_upper);

        p.lower = lower;
        if (r >= 0)
                r = reset_entries(&p, fd, path[0] ? path_basename(path) : NULL);
        return errno_is_gone(r) ? 0 : r;
}

int reset_run(
        const Context *context, const Lower *lower, const char *path, uint64_t *ret_n, Failure *reterr) {
        Reset s = { .context = context, .lower = lower };
        _cleanup_free_ char *above = strdup(path);
        int r = above ? reset_at(&s, path, /* is_shallow= */ false) : -ENOMEM;

        while (r >= 0 && strchr(above, '/')) {
                *strrchr(above, '/') = '\0';
                r = reset_at(&s, above, /* is_shallow= */ true);
        }
        *ret_n = s.n_removed;
        return r < 0 ? failure_set_errno(reterr, r, "cannot drop the copies below '%s'", path) : 0;
}
