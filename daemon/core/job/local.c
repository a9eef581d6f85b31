/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An inode of the overlay is known in memory by its origin, if it has one. If that is detached while the
 * inode is held, the next lookup makes a second inode of the same file: locks and watches of the one mean
 * nothing to the other (docs/overlayfs.md 4.8). So only what nobody holds is touched, and what was loaded in
 * the last moment, which is seen by its inode number, is put back. What is held keeps its origin, and is
 * right as it is. */
#include "core/job/local.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/context/error-scope.h"
#include "core/context/staging.h"
#include "core/mount/pins.h"
#include "core/state/audit.h"
#include "core/upper/layer.h"
#include "core/upper/names.h"
#include "core/upper/raw.h"

/* Each repetition means that something else came into use. */
#define MAX_ROUNDS 5
#define PROBE_NAME "probe"

/* Entries of one directory, one after the other in the listing. */
typedef struct Group {
        char *path; /* of the directory */
        PathList names;
} Group;

typedef struct Local {
        const Context *context;
        Group *groups;
        size_t n;
        int pins_fd;
        dev_t device;    /* st_dev of what has no lower part */
        unsigned n_used; /* left as they are, for that */
        unsigned n_linked;
        unsigned n_failed;
} Local;

static void local_done(Local *l) {
        for (size_t i = 0; i < l->n; i++) {
                free(l->groups[i].path);
                path_list_done(&l->groups[i].names);
        }
        free(l->groups);
        (void) fd_close(l->pins_fd);
}

static int find_group(Local *l, const char *path, Group **ret) {
        _cleanup_free_ char *directory = path_dirname(path);

        if (!directory)
                return -ENOMEM;
        if (l->n == 0 || strcmp(l->groups[l->n - 1].path, directory) != 0) {
                if (!ARRAY_GROW(l->groups, l->n))
                        return -ENOMEM;
                l->groups[l->n++] = (Group){ .path = TAKE_PTR(directory) };
        }
        *ret = l->groups + l->n - 1;
        return 0;
}

static int collect(int dfd, const char *name, unsigned char type, const char *path, void *userdata) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        Local *l = userdata;
        Group *g;
        int r;

        if (is_staging_name(name))
                return 1;
        if (type == DT_DIR)
                return 0;
        r = upper_entry_read(dfd, name, &e);
        if (r < 0 || e.class != UPPER_COMPLETE || !e.has_live_origin)
                return 0; /* removed meanwhile, or its data is said to be missing already */
        if (e.n_links > 1) {
                l->n_linked++;
                return 0;
        }
        r = find_group(l, path, &g);
        return r < 0 ? r : path_list_add(&g->names, name);
}

typedef int (*visit_func)(Local *l, DirectoryPair d, const char *name);

/* What one entry says keeps no other from its turn. -EINVAL: the kernel has no such marks at all. */
static int leave_failed(Local *l, int r) {
        if (r == -EINVAL || error_scope(l->context, CALL_SET_ATTRIBUTES, r) != SCOPE_ENTRY)
                return r;
        l->n_failed++;
        return 1;
}

/* 1: it is done with, and taken off the list. */
static int visit_group(Local *l, Group *g, visit_func func) {
        _cleanup_pair_ DirectoryPair d = DIRECTORY_PAIR_INIT;
        bool is_there = pair_open(context_root(l->context), g->path, &d) >= 0;
        size_t n = g->names.n;
        int r = 0;

        g->names.n = 0;
        for (size_t i = 0; i < n; i++) {
                if (r >= 0) {
                        r = is_there ? func(l, d, g->names.items[i]) : 1;
                        r = r < 0 ? leave_failed(l, r) : r;
                }
                if (r == 1)
                        free(g->names.items[i]);
                else
                        g->names.items[g->names.n++] = g->names.items[i];
        }
        return r < 0 ? r : 0;
}

static int visit_all(Local *l, visit_func func) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < l->n; i++)
                r = context_is_canceled(l->context) ? -ECANCELED : visit_group(l, l->groups + i, func);
        return r;
}

static int set_pin(Local *l, DirectoryPair d, const char *name) {
        int r = pin_set(l->pins_fd, d.fd, name);

        return r < 0 ? r : r == 0;
}

static int leave_if_used(Local *l, DirectoryPair d, const char *name) {
        int r = pin_take(l->pins_fd, d.fd, name);

        l->n_used += r > 0;
        return r;
}

static int leave(Local *l, DirectoryPair d, const char *name) {
        l->n_used++;
        return 1;
}

/* What is on the list afterwards was not in memory a moment ago. */
static int find_unused(Local *l, Failure *reterr) {
        for (unsigned i = 0; i < MAX_ROUNDS; i++) {
                int r = visit_all(l, set_pin);

                if (r >= 0)
                        r = pins_forget_unused(l->pins_fd, l->context->root_fd, reterr);
                if (r <= 0)
                        return r;
                r = visit_all(l, leave_if_used);
                if (r < 0)
                        return r;
        }
        return visit_all(l, leave);
}

/* Whether the overlay has loaded it without its origin. */
static bool is_shown_as(const Local *l, int dfd, const char *name, const struct stat *upper) {
        struct stat st;

        return fstatat(dfd, name, &st, AT_SYMLINK_NOFOLLOW) >= 0 && st.st_dev == l->device &&
                st.st_ino == upper->st_ino;
}

static int detach(Local *l, DirectoryPair d, const char *name) {
        _cleanup_close_ int fd = open_beneath(d.upper_fd, name, O_PATH | O_NOFOLLOW);
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        struct stat st;
        int r;

        if (fd < 0)
                return errno_is_gone(fd) ? 1 : fd;
        r = upper_entry_read(fd, "", &e);
        if (r >= 0 && fstat(fd, &st) < 0)
                r = -errno;
        if (r < 0 || e.class != UPPER_COMPLETE || e.n_links != 1)
                return r < 0 ? r : 1; /* another entry by now */
        r = raw_detach_origin(fd);
        if (r <= 0 || is_shown_as(l, d.fd, name, &st))
                return r < 0 ? r : 1;
        l->n_used++;
        r = raw_attach_origin(fd);
        return r < 0 ? r : 1;
}

static int make_named(const Context *context, Failure *reterr) {
        _cleanup_(staging_done) Staging s = STAGING_INIT;
        int r = staging_create(context, &s, reterr), fd, k;

        if (r < 0)
                return r;
        fd = openat(s.dir.fd, PROBE_NAME, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
        r = fd < 0 ? -errno : fd;
        if (fd >= 0 && unlinkat(s.dir.fd, PROBE_NAME, 0) < 0)
                r = -errno;
        k = staging_remove(&s);
        if (r >= 0 && k >= 0)
                return fd;
        (void) fd_close(fd);
        return r < 0 ? r : k;
}

/* By a file that is nowhere but in the upper layer. Before Linux 6.10 overlayfs has none without a name. */
static int find_device(Local *l, Failure *reterr) {
        _cleanup_close_ int fd = openat(l->context->root_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        struct stat st;

        if (fd < 0 && errno == EOPNOTSUPP)
                fd = make_named(l->context, reterr);
        else if (fd < 0)
                fd = -errno;
        if (fd < 0)
                return fd;
        if (fstat(fd, &st) < 0)
                return -errno;
        l->device = st.st_dev;
        return 0;
}

static int run(Local *l, Failure *reterr) {
        int r = find_device(l, reterr);

        if (r >= 0)
                r = l->pins_fd = pins_open();
        if (r >= 0)
                r = find_unused(l, reterr);
        return r < 0 ? r : visit_all(l, detach);
}

static void note_left(const Local *l, const char *path) {
        if (l->n_used > 0)
                context_note(
                        l->context, path,
                        "%u of its files are in use, so each of them is still asked for in the lower layer "
                        "when it is first looked up; ask again when nobody uses them",
                        l->n_used);
        if (l->n_failed > 0)
                context_note(
                        l->context, path,
                        "%u of its files cannot be looked up, or not be changed in the upper layer, so "
                        "each of them is still asked for in the lower layer when it is first looked up",
                        l->n_failed);
        if (l->n_linked > 0)
                context_note(
                        l->context, path,
                        "%u of its files have several names, so each of them is still asked for in the "
                        "lower layer when it is first looked up",
                        l->n_linked);
}

/* The data is here in any case. */
static int conclude(const Local *l, const char *path, int r, const Failure *f) {
        if (r == -ECANCELED || r == -ENOMEM)
                return r;
        if (r < 0)
                context_note(
                        l->context, path,
                        "what is here in full is still asked for in the lower layer when it is first looked "
                        "up: %s",
                        f->message
                                ?: r == -EINVAL ? "this kernel cannot tell which files are in use "
                                                  "(evictable fanotify marks, "
                                                  "Linux 5.19)"
                                                : strerror(-r));
        note_left(l, path);
        return 0;
}

int local_make(const Context *context, const char *path) {
        _cleanup_(local_done) Local l = { .context = context, .pins_fd = -EBADF };
        _cleanup_failure_ Failure f = FAILURE_INIT;
        int r = audit_upper(context, path, collect, &l);

        if (r >= 0 && l.n > 0 && context->overlay->index != TRI_NO) {
                context_note(
                        context, path,
                        "with index=on, what is here in full is still asked for in the lower layer when it "
                        "is first looked up");
                return 0;
        }
        if (r >= 0 && l.n > 0)
                r = run(&l, &f);
        return conclude(&l, path, r, &f);
}
