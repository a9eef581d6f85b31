/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/remount/workdir.h"

#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "base/str.h"
#include "core/mount/mount-clone.h"

#define PROBE_SUFFIX ".probe"

void workdir_done(Workdir *w) {
        w->parent_fd = fd_close(w->parent_fd);
        w->fd = fd_close(w->fd);
        free(w->name);
        free(w->path);
        *w = WORKDIR_INIT;
}

static int open_parent(const Overlay *o, char **ret_path) {
        _cleanup_free_ char *parent = path_dirname(o->work);
        int fd;

        if (!parent)
                return -ENOMEM;
        fd = open(parent[0] ? parent : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        *ret_path = TAKE_PTR(parent);
        return fd;
}

/* Sets the names; base is that of the work directory. */
static int workdir_name(Workdir *w, const char *parent, const char *base, size_t base_size) {
        uint64_t id;

        if (getrandom(&id, sizeof(id), 0) != sizeof(id))
                return -EIO;
        w->name =
                str_format("%.*s" SWAP_WORK_INFIX "%016llx", (int) base_size, base, (unsigned long long) id);
        if (!w->name)
                return -ENOMEM;
        if (strlen(w->name) + strlen(PROBE_SUFFIX) > NAME_MAX) /* it could be made, but not be removed */
                return -ENAMETOOLONG;
        w->path = path_join(parent[0] ? parent : "/", w->name);
        return w->path ? 0 : -ENOMEM;
}

static int open_locked(Workdir *w) {
        w->fd = open_dir_beneath(w->parent_fd, w->name);
        if (w->fd < 0)
                return w->fd;
        return flock(w->fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
}

/* The new directory must be reached without crossing a mount from where the old one is: RESOLVE_NO_XDEV. */
static int create(const Overlay *o, Workdir *w) {
        const char *base = path_basename(o->work);
        _cleanup_close_ int old_fd = -EBADF;
        _cleanup_free_ char *parent = NULL;
        int r;

        w->parent_fd = open_parent(o, &parent);
        if (w->parent_fd < 0)
                return w->parent_fd;
        old_fd = open_dir_beneath(w->parent_fd, base);
        if (old_fd < 0)
                return old_fd;
        r = workdir_name(w, parent, base, overlay_work_base_length(base));
        if (r < 0)
                return r;
        if (mkdirat(w->parent_fd, w->name, 0700) < 0)
                return -errno;
        r = open_locked(w);
        if (r < 0)
                (void) unlinkat(w->parent_fd, w->name, AT_REMOVEDIR);
        return r;
}

int workdir_create(const Overlay *o, Workdir *ret, Failure *reterr) {
        _cleanup_(workdir_done) Workdir w = WORKDIR_INIT;
        int r = create(o, &w);

        if (r == -EXDEV)
                return failure_set(
                        reterr, FAILURE_PRECONDITION, EXDEV,
                        "'%s' cannot be swapped: its work directory '%s' is a mount point, and no other can "
                        "be made beside it; unmount it and mount it anew",
                        o->mount_point, o->work);
        if (r < 0)
                return failure_set_errno(
                        reterr, r, "cannot make a work directory beside '%s' for a new superblock", o->work);
        *ret = TAKE_AS(w, WORKDIR_INIT);
        return 0;
}

static int set(int context, const char *key, const char *value) {
        return fsconfig(context, FSCONFIG_SET_STRING, key, value, 0) < 0 ? -errno : 0;
}

/* An overlay of two empty directories that is to use the work directory. */
static int try_mount(const char *lower, const char *upper, const char *work) {
        _cleanup_close_ int context = fsopen("overlay", FSOPEN_CLOEXEC);
        int r;

        if (context < 0)
                return -errno;
        if ((r = set(context, "lowerdir", lower)) < 0 || (r = set(context, "upperdir", upper)) < 0 ||
            (r = set(context, "workdir", work)) < 0 || (r = set(context, "index", "on")) < 0)
                return r;
        return fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0 ? -errno : 0;
}

static int probe(const Workdir *w, int dfd) {
        char lower[PROC_FD_MAX], upper[PROC_FD_MAX], work[PROC_FD_MAX];

        if ((mkdirat(dfd, "lower", 0700) < 0 || mkdirat(dfd, "upper", 0700) < 0) && errno != EEXIST)
                return -errno;
        /* Nobody sees these paths: the overlay is never attached. They are short, and cannot be led
         * elsewhere. */
        proc_fd_path(lower, dfd, "lower");
        proc_fd_path(upper, dfd, "upper");
        proc_fd_path(work, w->fd, "");
        return try_mount(lower, upper, work);
}

static int remove_tree(int parent_fd, const char *name, int fd) {
        int r = dir_empty(fd);

        if (r < 0)
                return r;
        return unlinkat(parent_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

/* Whether a superblock uses it: 1, 0. Only for one that nobody else is about to mount; an unused one is
 * emptied. */
static int is_used(const Workdir *w) {
        _cleanup_free_ char *name = NULL;
        _cleanup_close_ int fd = -EBADF;
        int r;

        name = str_format("%s" PROBE_SUFFIX, w->name);
        if (!name)
                return -ENOMEM;
        if (mkdirat(w->parent_fd, name, 0700) < 0 && errno != EEXIST)
                return -errno;
        fd = open_dir_beneath(w->parent_fd, name);
        if (fd < 0)
                return fd;
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
                return -errno;
        r = probe(w, fd);
        (void) remove_tree(w->parent_fd, name, fd);
        return r == -EBUSY ? 1 : r;
}

int workdir_remove(const Workdir *w) {
        int r = is_used(w);

        if (r != 0)
                return r < 0 ? r : 0;
        r = remove_tree(w->parent_fd, w->name, w->fd);
        return r < 0 ? r : 1;
}

int workdir_open_current(const Overlay *o, Workdir *ret) {
        _cleanup_(workdir_done) Workdir w = WORKDIR_INIT;
        const char *base = path_basename(o->work);
        _cleanup_free_ char *parent = NULL;
        int r;

        if (overlay_work_base_length(base) == strlen(base))
                return 0;
        w.parent_fd = open_parent(o, &parent);
        if (w.parent_fd < 0)
                return w.parent_fd;
        w.name = strdup(base);
        w.path = strdup(o->work);
        if (!w.name || !w.path)
                return -ENOMEM;
        r = open_locked(&w);
        if (r < 0)
                return r;
        *ret = TAKE_AS(w, WORKDIR_INIT);
        return 1;
}

typedef struct Sweep {
        const Overlay *o;
        int parent_fd;
        int n;
} Sweep;

/* What a probe left that was killed. */
static int sweep_probe(const Sweep *s, const char *name) {
        _cleanup_close_ int fd = open_dir_beneath(s->parent_fd, name);

        return fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 ? 0 : remove_tree(s->parent_fd, name, fd);
}

/* Its parent is opened anew: an overlay, as a probe is, needs a mount that is attached. */
static int sweep_one(int dfd, const char *name, unsigned char type, void *userdata) {
        const char *current = path_basename(((Sweep *) userdata)->o->work);
        size_t n = overlay_work_base_length(current), length = strlen(name), suffix = strlen(PROBE_SUFFIX);
        _cleanup_(workdir_done) Workdir w = WORKDIR_INIT;
        _cleanup_free_ char *parent = NULL;
        Sweep *s = userdata;
        int r;

        if (type != DT_DIR || strncmp(name, current, n) != 0 ||
            strncmp(name + n, SWAP_WORK_INFIX, strlen(SWAP_WORK_INFIX)) != 0)
                return 0;
        if (length > suffix && strcmp(name + length - suffix, PROBE_SUFFIX) == 0)
                return sweep_probe(s, name);
        if (overlay_work_base_length(name) != n || strcmp(name, current) == 0)
                return 0;
        w.parent_fd = open_parent(s->o, &parent);
        if (w.parent_fd < 0)
                return w.parent_fd;
        w.name = strdup(name);
        if (!w.name)
                return -ENOMEM;
        r = open_locked(&w);
        if (r >= 0)
                r = workdir_remove(&w);
        if (r > 0)
                s->n++;
        return r == -EWOULDBLOCK || errno_is_gone(r) ? 0 : r;
}

int workdir_sweep(const Overlay *o) {
        _cleanup_free_ char *parent = path_dirname(o->work);
        _cleanup_close_ int fd = -EBADF;
        Sweep s = { .o = o };
        int r;

        if (!parent)
                return -ENOMEM;
        fd = mount_clone_open(parent[0] ? parent : "/", O_RDONLY);
        if (fd < 0)
                return fd;
        s.parent_fd = fd;
        r = dir_foreach(fd, sweep_one, &s);
        return r < 0 ? r : s.n;
}
