/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/upper/meta.h"

#include <attr/error_context.h>
#include <attr/libattr.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>

#include "base/fs-util.h"

typedef int (*check_func)(const char *name, struct error_context *context);

/* libattr asks for each name; overlayfs hides its own marks from the merged view, so all that it lists is to
 * be kept. */
static int take_every_xattr(const char *name, struct error_context *context) {
        return 1;
}

/* What says how a security module treats a file, not what the file is: capabilities and signatures go with
 * its content. */
static int is_label(const char *name, struct error_context *context) {
        static const char *const others[] = { "security.capability", "security.ima", "security.evm" };

        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                if (strcmp(name, others[i]) == 0)
                        return 0;
        return strncmp(name, "security.", strlen("security.")) == 0;
}

static int is_no_label(const char *name, struct error_context *context) {
        return !is_label(name, context);
}

static ssize_t list_xattrs(int fd, char **ret) {
        for (;;) {
                _cleanup_free_ char *b = NULL;
                ssize_t n = flistxattr(fd, NULL, 0);

                if (n < 0)
                        return -errno;
                b = malloc((size_t) n + 1);
                if (!b)
                        return -ENOMEM;
                n = flistxattr(fd, b, (size_t) n + 1); /* never 0, which would only ask for the size again */
                if (n < 0 && errno == ERANGE)
                        continue;
                if (n < 0)
                        return -errno;
                *ret = TAKE_PTR(b);
                return n;
        }
}

/* A directory may inherit a default ACL at birth, and a repeated copy must drop what was removed meanwhile.
 */
static int remove_surplus_xattrs(int from_fd, int to_fd, check_func check) {
        _cleanup_free_ char *names = NULL;
        ssize_t n = list_xattrs(to_fd, &names);

        if (n < 0)
                return n == -EOPNOTSUPP ? 0 : (int) n;
        for (const char *p = names; p < names + n; p += strlen(p) + 1)
                if (check(p, NULL) && fgetxattr(from_fd, p, NULL, 0) < 0 && errno == ENODATA &&
                    fremovexattr(to_fd, p) < 0 && errno != ENODATA)
                        return -errno;
        return 0;
}

static int copy_xattrs(int from_fd, int to_fd, check_func check) {
        int r = remove_surplus_xattrs(from_fd, to_fd, check);

        /* NULL context: no messages; paths serve only those. */
        if (r >= 0 && attr_copy_fd("", from_fd, "", to_fd, check, NULL) < 0 && errno != ENOSYS &&
            errno != ENOTSUP)
                r = -errno;
        return r;
}

static int copy(int from_fd, int to_fd, check_func check) {
        struct stat st;
        int r;

        if (fstat(from_fd, &st) < 0)
                return -errno;
        if (fchown(to_fd, st.st_uid, st.st_gid) < 0)
                return -errno;
        r = copy_xattrs(from_fd, to_fd, check);
        if (r < 0)
                return r;
        /* After the ACLs, whose mask the group bits are, and after chown(), which drops set-id bits. */
        if (fchmod(to_fd, st.st_mode & 07777) < 0)
                return -errno;
        return 0;
}

int meta_copy(int from_fd, int to_fd) {
        return copy(from_fd, to_fd, take_every_xattr);
}

int meta_copy_but_labels(int from_fd, int to_fd) {
        return copy(from_fd, to_fd, is_no_label);
}

static int give(int fd, const struct stat *old, const struct stat *new) {
        int r;

        if (new->st_uid == old->st_uid &&new->st_gid == old->st_gid)
                return 0;
        if (fchown(fd, new->st_uid, new->st_gid) >= 0)
                return 0;
        r = -errno;
        return fchmod(fd, old->st_mode & 07777) < 0 ? -errno : r;
}

/* Nobody may do meanwhile what neither the old mode nor the new one allows. A new owner takes the set-id
 * bits away in any case. */
int meta_copy_all(int from_fd, int to_fd) {
        struct stat new, old;
        mode_t both;
        int r;

        if (fstat(from_fd, &new) < 0 || fstat(to_fd, &old) < 0)
                return -errno;
        both = new.st_mode &old.st_mode & 07777;
        if (new.st_uid != old.st_uid || new.st_gid != old.st_gid)
                both &= 0777;
        if (both != (old.st_mode & 07777) && fchmod(to_fd, both) < 0)
                return -errno;
        r = give(to_fd, &old, &new);
        if (r < 0)
                return r;
        r = copy_xattrs(from_fd, to_fd, is_no_label);
        return fchmod(to_fd, new.st_mode & 07777) < 0 && r >= 0 ? -errno : r;
}

static int copy_xattrs_at(int from_dfd, const char *from, int to_dfd, const char *to, check_func check) {
        char a[PROC_FD_MAX], b[PROC_FD_MAX];

        proc_fd_path(a, from_dfd, from);
        proc_fd_path(b, to_dfd, to);
        if (attr_copy_file(a, b, check, NULL) < 0 && errno != ENOSYS && errno != ENOTSUP)
                return -errno;
        return 0;
}

int meta_copy_xattrs_at(int from_dfd, const char *from, int to_dfd, const char *to) {
        return copy_xattrs_at(from_dfd, from, to_dfd, to, is_no_label);
}

int meta_copy_labels_at(int from_dfd, const char *from, int to_dfd, const char *to) {
        return copy_xattrs_at(from_dfd, from, to_dfd, to, is_label);
}

int meta_copy_times(int from_fd, int to_fd) {
        struct stat st;

        if (fstat(from_fd, &st) < 0)
                return -errno;
        if (futimens(to_fd, (struct timespec[2]){ st.st_atim, st.st_mtim }) < 0)
                return -errno;
        return 0;
}

static bool has_mtime(int fd, const struct timespec *t) {
        struct stat st;

        return fstat(fd, &st) >= 0 && st.st_mtim.tv_sec == t->tv_sec && st.st_mtim.tv_nsec == t->tv_nsec;
}

int meta_touch(int from_fd, int to_fd) {
        struct timespec now;
        struct stat st;

        if (fstat(from_fd, &st) < 0 || clock_gettime(CLOCK_REALTIME, &now) < 0 ||
            futimens(to_fd, (struct timespec[2]){ st.st_atim, now }) < 0)
                return -errno;
        if (!has_mtime(to_fd, &st.st_mtim))
                return 0;
        now.tv_sec++;
        return futimens(to_fd, (struct timespec[2]){ st.st_atim, now }) < 0 ? -errno : 0;
}

int meta_copy_up_at(int dfd, const char *name, const struct stat *st) {
        const struct timespec times[2] = { st->st_atim, { .tv_nsec = UTIME_OMIT } };

        return utimensat(dfd, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

int meta_copy_up(int fd) {
        struct stat st;

        if (fstat(fd, &st) < 0 ||
            utimensat(fd, "", (struct timespec[2]){ st.st_atim, { .tv_nsec = UTIME_OMIT } }, AT_EMPTY_PATH) <
                    0)
                return -errno;
        return 0;
}
