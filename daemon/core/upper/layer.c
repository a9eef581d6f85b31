/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/upper/layer.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/fs-util.h"
#include "base/path-util.h"

void upper_entry_done(UpperEntry *e) {
        free(e->redirect);
        *e = (UpperEntry){ 0 };
}

/* The size of an xattr, of which up to size bytes are read. -ENODATA when there is none, also where the file
 * system has no xattrs; -ERANGE when it is larger, unless size is 0. Through /proc because fgetxattr(2)
 * takes no O_PATH descriptor. */
static ssize_t xattr_peek(int fd, const char *name, char *buffer, size_t size) {
        char path[PROC_FD_MAX];
        ssize_t n;

        proc_fd_path(path, fd, "");
        n = getxattr(path, name, buffer, size);
        if (n >= 0)
                return n;
        return errno == ENODATA || errno == EOPNOTSUPP ? -ENODATA : -errno;
}

static int has_xattr(int fd, const char *name) {
        ssize_t n = xattr_peek(fd, name, NULL, 0);

        return n == -ENODATA ? 0 : n < 0 ? (int) n : 1;
}

/* Only the one byte "y": the kernel reads into a buffer of one byte and takes a longer value for none
 * (ovl_get_opaquedir_val(); docs/overlayfs.md 1.2). */
static int is_opaque(int fd) {
        char value;
        ssize_t n = xattr_peek(fd, XATTR_OPAQUE, &value, 1);

        if (n == -ENODATA || n == -ERANGE)
                return 0;
        return n < 0 ? (int) n : n == 1 && value == 'y';
}

static int read_redirect(int fd, char **ret) {
        ssize_t n = xattr_read_fd(fd, XATTR_REDIRECT, ret);

        return n < 0 && n != -ENODATA && n != -EOPNOTSUPP ? (int) n : 0;
}

static int classify_directory(int fd, UpperEntry *e) {
        int r = is_opaque(fd);

        if (r < 0)
                return r;
        e->class = r > 0 ? UPPER_OPAQUE : e->redirect ? UPPER_REDIRECT : UPPER_PLAIN;
        return 0;
}

/* An overlay does not take files with a whiteout xattr in the upper for whiteouts (only in lower layers). */
static int classify_file(int fd, const struct stat *st, UpperEntry *e) {
        int r;

        e->class = UPPER_COMPLETE;
        if (S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0))
                e->class = UPPER_WHITEOUT;
        if (!S_ISREG(st->st_mode))
                return 0;
        r = has_xattr(fd, XATTR_METACOPY);
        if (r > 0)
                e->class = UPPER_METACOPY;
        return r < 0 ? r : 0;
}

/* Empty, where the lower file system has no handles; of an unknown version, where raw_detach_origin() has
 * been. Either way the kernel takes it for unknown (ovl_get_fh(); docs/overlayfs.md 1.9). */
static int read_origin(int fd, UpperEntry *e) {
        char value[ORIGIN_SIZE_MAX];
        ssize_t n = xattr_peek(fd, XATTR_ORIGIN, value, sizeof(value));

        e->has_origin = n >= 0 || n == -ERANGE;
        e->has_live_origin = n > 0 && value[0] == ORIGIN_VERSION;
        return n < 0 && n != -ENODATA && n != -ERANGE ? (int) n : 0;
}

static int entry_from_fd(int fd, UpperEntry *ret) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        struct stat st;
        int r;

        if (fstat(fd, &st) < 0)
                return -errno;
        e.type = IFTODT(st.st_mode);
        e.inode = st.st_ino;
        e.size = (uint64_t) st.st_size;
        e.n_links = (uint32_t) st.st_nlink;
        r = read_redirect(fd, &e.redirect);
        if (r >= 0)
                r = S_ISDIR(st.st_mode) ? classify_directory(fd, &e) : classify_file(fd, &st, &e);
        if (r < 0)
                return r;
        r = read_origin(fd, &e);
        if (r < 0)
                return r;
        *ret = e;
        e.redirect = NULL;
        return 0;
}

/* upper_entry_read() - what one entry of the upper layer says
 * @dfd: directory of the upper, borrowed, may be O_PATH   @name: one component, or "" for dfd itself
 * ret->redirect is as found on disk, also where the kernel does not read it (opaque directories, complete
 * files) and where it is malformed. Returns 0, -EXDEV if something is mounted upon the entry in the upper
 * (the overlay does not see that), -EPERM without CAP_SYS_ADMIN where the file system tells. Blocking: on
 * the upper file system. */
int upper_entry_read(int dfd, const char *name, UpperEntry *ret) {
        _cleanup_close_ int fd = -EBADF;

        if (name[0] == '\0')
                return entry_from_fd(dfd, ret);
        fd = open_beneath(dfd, name, O_PATH | O_NOFOLLOW);
        if (fd == -ENOENT) {
                *ret = (UpperEntry){ .class = UPPER_MISSING, .type = DT_UNKNOWN };
                return 0;
        }
        return fd < 0 ? fd : entry_from_fd(fd, ret);
}

bool upper_entry_is_merge_child(const UpperEntry *e) {
        return e->class == UPPER_METACOPY || e->class == UPPER_REDIRECT;
}

bool upper_entry_has_absolute_redirect(const UpperEntry *e) {
        return e->redirect && e->redirect[0] == '/';
}

/* The kernel takes "/a/b" and "name"; an empty value, a trailing or double '/' and a '/' in a name are
 * EINVAL, "." and ".." are EACCES at lookup (docs/overlayfs.md 1.2). What follows a NUL does not count. */
bool upper_redirect_is_valid(const char *s) {
        bool absolute = *s == '/';

        for (s += absolute;;) {
                size_t n = strcspn(s, "/");

                if (n == 0 || (n <= 2 && strncmp(s, "..", n) == 0))
                        return false;
                s += n;
                if (*s == '\0')
                        return true;
                if (!absolute)
                        return false;
                s++;
        }
}

/* Where a walk from the root of the upper has got to. */
typedef struct Walk {
        int fd;      /* the directory in the upper, -EBADF once the path has left it */
        char *lower; /* NULL: none */
} Walk;

static void walk_done(Walk *w) {
        w->fd = fd_close(w->fd);
        free(w->lower);
}

static int walk_append(Walk *w, const char *name) {
        char *joined;

        if (!w->lower)
                return 0;
        joined = path_join(w->lower, name);
        if (!joined)
                return -ENOMEM;
        free(w->lower);
        w->lower = joined;
        return 0;
}

static int walk_set(Walk *w, const char *lower) {
        char *copy = lower ? strdup(lower) : NULL;

        if (lower && !copy)
                return -ENOMEM;
        free(w->lower);
        w->lower = copy;
        return 0;
}

/* The directory is in the lower layers only, if anywhere; below an opaque one there is nothing
 * (docs/overlayfs.md 2.1). */
static int walk_leave_upper(Walk *w, const char *name) {
        if (!w->lower)
                return -ENOENT;
        w->fd = fd_close(w->fd);
        return walk_append(w, name);
}

static int walk_apply(Walk *w, const char *name, const UpperEntry *e) {
        if (e->class == UPPER_OPAQUE)
                return walk_set(w, NULL);
        if (!e->redirect)
                return walk_append(w, name);
        if (!upper_redirect_is_valid(e->redirect))
                return -EINVAL;
        if (upper_entry_has_absolute_redirect(e))
                return walk_set(w, e->redirect + 1);
        return walk_append(w, e->redirect);
}

/* Opened first, then read: the kernel writes the redirect before it renames (docs/overlayfs.md 2.2), so what
 * has none then was never called otherwise, and the lower path is that of the directory the walk ends at,
 * whatever is renamed meanwhile. */
static int walk_step(Walk *w, const char *name) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        _cleanup_close_ int fd = -EBADF;
        int r;

        if (w->fd < 0)
                return walk_append(w, name);
        fd = open_beneath(w->fd, name, O_PATH | O_NOFOLLOW);
        if (fd == -ENOENT)
                return walk_leave_upper(w, name);
        r = fd < 0 ? fd : upper_entry_read(fd, "", &e);
        if (r < 0)
                return r;
        if (e.class == UPPER_WHITEOUT)
                return -ENOENT;
        if (e.type != DT_DIR)
                return -ENOTDIR;
        (void) fd_close(w->fd);
        w->fd = TAKE_FD(fd);
        return walk_apply(w, name, &e);
}

static int walk_start(Walk *w, int upper_fd) {
        w->fd = open_beneath(upper_fd, "", O_PATH | O_DIRECTORY);
        if (w->fd < 0)
                return w->fd;
        return walk_set(w, "");
}

static int walk_path(Walk *w, int upper_fd, const char *path) {
        _cleanup_free_ char *copy = strdup(path);
        char *rest = copy, *name;
        int r;

        if (!copy)
                return -ENOMEM;
        r = walk_start(w, upper_fd);
        while (r >= 0 && (name = strsep(&rest, "/")))
                if (name[0] != '\0')
                        r = walk_step(w, name);
        return r;
}

/* upper_lower_path() - the path of a directory in the merged view of the lower layers
 * @upper_fd: root of the upper, borrowed   @path: relative to it, "" is the root, whose own marks the kernel
 * does not read (docs/overlayfs.md 1.6). Returns 0; -ENOENT whited out or below an opaque directory that has
 * no such entry, -ENOTDIR, -EINVAL malformed redirect on the way, -EXDEV a mount in the upper. Whether the
 * lower path exists is not asked: that would need the lower. Renames while this runs may lead to another
 * directory than a moment before: upper_lower_path_of() where it matters. */
int upper_lower_path(int upper_fd, const char *path, char **ret_lower, bool *ret_in_upper) {
        _cleanup_(walk_done) Walk w = { .fd = -EBADF };
        int r = walk_path(&w, upper_fd, path);

        if (r < 0)
                return r;
        *ret_lower = TAKE_PTR(w.lower);
        *ret_in_upper = w.fd >= 0;
        return 0;
}

int upper_lower_path_of(int upper_fd, const char *path, int dir_fd, char **ret_lower) {
        _cleanup_(walk_done) Walk w = { .fd = -EBADF };
        struct stat found, expected;
        int r = walk_path(&w, upper_fd, path);

        if (r < 0)
                return r;
        if (w.fd < 0)
                return -ESTALE;
        if (fstat(w.fd, &found) < 0 || fstat(dir_fd, &expected) < 0)
                return -errno;
        if (found.st_dev != expected.st_dev || found.st_ino != expected.st_ino)
                return -ESTALE;
        *ret_lower = TAKE_PTR(w.lower);
        return 0;
}
