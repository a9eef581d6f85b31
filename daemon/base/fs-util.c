/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/fs-util.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include "base/path-util.h"

/* Of a walk that a rename elsewhere disturbs. */
#define OPEN_TRIES 100

int open_beneath(int dfd, const char *path, int flags) {
        struct open_how how = {
                .flags = (uint64_t) (flags | O_CLOEXEC),
                .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS,
        };

        /* EAGAIN: a rename or mount anywhere on the system raced with the walk (openat2(2)), which is
         * repeated. A file with a lease (O_NONBLOCK), or a server, may say so for as long as it likes. */
        for (unsigned n = 0;;) {
                long fd = syscall(SYS_openat2, dfd, path[0] ? path : ".", &how, sizeof(how));
                if (fd >= 0)
                        return (int) fd;
                if (errno != EINTR && (errno != EAGAIN || ++n == OPEN_TRIES))
                        return -errno;
        }
}

int open_dir_beneath(int dfd, const char *path) {
        return open_beneath(dfd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

void proc_fd_path(char buffer[static PROC_FD_MAX], int fd, const char *name) {
        (void) snprintf(buffer, PROC_FD_MAX, name[0] ? "/proc/self/fd/%d/%s" : "/proc/self/fd/%d", fd, name);
}

static bool is_dot(const char *name) {
        return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int entry_type(int dfd, const struct dirent *de, unsigned char *ret) {
        struct stat st;

        *ret = de->d_type;
        if (de->d_type != DT_UNKNOWN)
                return 0;
        if (fstatat(dfd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        *ret = IFTODT(st.st_mode);
        return 0;
}

/* That we list a directory is not for its access time to tell, where we may decide that. */
static int open_listing(int dfd) {
        const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
        int fd = openat(dfd, ".", flags | O_NOATIME);

        if (fd < 0 && errno == EPERM)
                fd = openat(dfd, ".", flags);
        return fd < 0 ? -errno : fd;
}

int dir_foreach_dirent(int dfd, dirent_func func, void *userdata) {
        _cleanup_close_ int fd = open_listing(dfd);
        _cleanup_closedir_ DIR *d = NULL;

        if (fd < 0)
                return fd;
        d = fdopendir(fd);
        if (!d)
                return -errno;
        fd = -EBADF;
        for (;;) {
                struct dirent *de;
                int r;

                errno = 0;
                de = readdir(d);
                if (!de)
                        return -errno;
                if (is_dot(de->d_name))
                        continue;
                r = func(dfd, de, userdata);
                if (r < 0)
                        return r;
        }
}

typedef struct Foreach {
        dir_entry_func func;
        void *userdata;
} Foreach;

static int call_with_type(int dfd, const struct dirent *de, void *userdata) {
        const Foreach *f = userdata;
        unsigned char type;
        int r = entry_type(dfd, de, &type);

        if (r < 0)
                return r == -ENOENT ? 0 : r;
        return f->func(dfd, de->d_name, type, f->userdata);
}

int dir_foreach(int dfd, dir_entry_func func, void *userdata) {
        Foreach f = { .func = func, .userdata = userdata };

        return dir_foreach_dirent(dfd, call_with_type, &f);
}

static int stop(int dfd, const struct dirent *de, void *userdata) {
        return -ENOTEMPTY;
}

int dir_is_empty(int dfd) {
        int r = dir_foreach_dirent(dfd, stop, NULL);

        return r == -ENOTEMPTY ? 0 : r < 0 ? r : 1;
}

static int remove_entry(int dfd, const char *name, unsigned char type, void *userdata) {
        int *first_error = userdata, r = 0;

        if (type == DT_DIR) {
                _cleanup_close_ int fd = open_dir_beneath(dfd, name);

                r = fd < 0 ? fd : dir_empty(fd);
        }
        if (r >= 0 && unlinkat(dfd, name, type == DT_DIR ? AT_REMOVEDIR : 0) < 0)
                r = -errno;
        if (r < 0 && r != -ENOENT && *first_error == 0)
                *first_error = r;
        return 0;
}

int dir_empty(int dfd) {
        int first_error = 0, r;

        r = dir_foreach(dfd, remove_entry, &first_error);
        return r < 0 ? r : first_error;
}

static int read_all(int fd, size_t max, char **ret, size_t *ret_size) {
        _cleanup_free_ char *b = NULL;
        size_t n = 0, room = 0;

        for (;;) {
                ssize_t k;

                if (room - n < 2) {
                        char *grown = realloc(b, room += 4096 + room);
                        if (!grown)
                                return -ENOMEM;
                        b = grown;
                }
                k = read(fd, b + n, room - n - 1);
                if (k < 0 && errno == EINTR)
                        continue;
                if (k < 0)
                        return -errno;
                if (k == 0)
                        break;
                n += (size_t) k;
                if (n > max)
                        return -E2BIG;
        }
        b[n] = '\0';
        *ret = TAKE_PTR(b);
        if (ret_size)
                *ret_size = n;
        return 0;
}

int file_read(int dfd, const char *name, size_t max, char **ret, size_t *ret_size) {
        _cleanup_close_ int fd = open_beneath(dfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);

        return fd < 0 ? fd : read_all(fd, max, ret, ret_size);
}

int fd_write_all(int fd, const void *data, size_t size) {
        const char *p = data;

        while (size > 0) {
                ssize_t n = write(fd, p, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                p += n;
                size -= (size_t) n;
        }
        return 0;
}

static int
write_and_rename(int fd, int dfd, const char *temp, const char *name, const void *data, size_t size) {
        int r = fd_write_all(fd, data, size);

        if (r < 0)
                return r;
        if (fdatasync(fd) < 0 || renameat(dfd, temp, dfd, name) < 0 || fsync(dfd) < 0)
                return -errno;
        return 0;
}

#define RANDOM_LENGTH 16 /* hex digits */

/* It is locked while it is written: what is not was left by who was killed. -EAGAIN: it was taken for that
 * before it could be locked. */
static int create_temp(int dfd, const char *name, char temp[static NAME_MAX + 1]) {
        _cleanup_close_ int fd = -EBADF;
        struct stat st;
        uint64_t random;

        if (getrandom(&random, sizeof(random), 0) != sizeof(random))
                return -EIO;
        if (snprintf(temp, NAME_MAX + 1, ".%s.%016llx", name, (unsigned long long) random) > NAME_MAX)
                return -ENAMETOOLONG;
        fd = openat(dfd, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;
        if (flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
                return -EAGAIN;
        return fstat(fd, &st) >= 0 && st.st_nlink == 0 ? -EAGAIN : TAKE_FD(fd);
}

int file_write_atomic(int dfd, const char *name, const void *data, size_t size) {
        _cleanup_close_ int fd = -EBADF;
        char temp[NAME_MAX + 1];
        int r;

        do
                fd = create_temp(dfd, name, temp);
        while (fd == -EAGAIN);
        if (fd < 0)
                return fd;
        r = write_and_rename(fd, dfd, temp, name, data, size);
        if (r < 0)
                (void) unlinkat(dfd, temp, 0);
        return r;
}

int file_remove_unfinished(int dfd, const char *name) {
        const char *random = strrchr(name, '.');
        _cleanup_close_ int fd = -EBADF;

        if (name[0] != '.' || random == name || strlen(random + 1) != RANDOM_LENGTH ||
            strspn(random + 1, "0123456789abcdef") != RANDOM_LENGTH)
                return 0;
        fd = open_beneath(dfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0)
                return errno_is_gone(fd) ? 0 : fd;
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
                return 0; /* or there are no locks, and nobody can tell */
        return unlinkat(dfd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

int mkdir_open(const char *path) {
        _cleanup_free_ char *parent = NULL;
        int fd;

        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0 || errno != ENOENT)
                return fd < 0 ? -errno : fd;
        parent = path_dirname(path);
        if (!parent)
                return -ENOMEM;
        if (parent[0]) {
                fd = mkdir_open(parent);
                if (fd < 0)
                        return fd;
                (void) close(fd);
        }
        if (mkdir(path, 0700) < 0 && errno != EEXIST)
                return -errno;
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

static ssize_t xattr_read_path(const char *path, bool follow, const char *xattr, char **ret) {
        for (;;) {
                _cleanup_free_ char *b = NULL;
                ssize_t n, room;

                n = follow ? getxattr(path, xattr, NULL, 0) : lgetxattr(path, xattr, NULL, 0);
                if (n < 0)
                        return -errno;
                room = n + 1; /* asked for in full: a size of 0 would only ask for the size again */
                b = malloc((size_t) room);
                if (!b)
                        return -ENOMEM;
                n = follow ? getxattr(path, xattr, b, (size_t) n + 1)
                           : lgetxattr(path, xattr, b, (size_t) n + 1);
                if (n < 0 && errno == ERANGE)
                        continue; /* grew between the two calls */
                if (n < 0)
                        return -errno;
                if (n == room)
                        continue; /* grew by one byte: no room for the terminator */
                b[n] = '\0';
                *ret = TAKE_PTR(b);
                return n;
        }
}

ssize_t xattr_read_at(int dfd, const char *name, const char *xattr, char **ret) {
        char path[PROC_FD_MAX];

        if (strlen(name) > NAME_MAX)
                return -ENAMETOOLONG;
        proc_fd_path(path, dfd, name);
        return xattr_read_path(path, /* follow= */ name[0] == '\0', xattr, ret);
}

ssize_t xattr_read_fd(int fd, const char *xattr, char **ret) {
        return xattr_read_at(fd, "", xattr, ret);
}

int xattr_write_fd(int fd, const char *xattr, const void *value, size_t size, int flags) {
        char path[PROC_FD_MAX];

        proc_fd_path(path, fd, "");
        return setxattr(path, xattr, value, size, flags) < 0 ? -errno : 0;
}

int file_handle_at(int dfd, const char *name, char **ret) {
        FileHandle h = { .handle.handle_bytes = MAX_HANDLE_SZ };
        int mount_id, flags = name[0] ? 0 : AT_EMPTY_PATH;
        char *s;

        if (name_to_handle_at(dfd, name, &h.handle, &mount_id, flags) < 0)
                return -errno;
        s = malloc(8 + 1 + 2 * (size_t) h.handle.handle_bytes + 1);
        if (!s)
                return -ENOMEM;
        (void) sprintf(s, "%x-", (unsigned) h.handle.handle_type);
        for (unsigned i = 0; i < h.handle.handle_bytes; i++)
                (void) sprintf(s + strlen(s), "%02x", h.handle.f_handle[i]);
        *ret = s;
        return 0;
}

static int hex_value(char c) {
        const char *digits = "0123456789abcdef", *p = c ? strchr(digits, c) : NULL;

        return p ? (int) (p - digits) : -EINVAL;
}

static int handle_parse(const char *text, struct file_handle *ret) {
        char *end;
        unsigned n = 0;

        ret->handle_type = (int) strtoul(text, &end, 16);
        if (end == text || *end != '-')
                return -EINVAL;
        for (const char *p = end + 1; *p; p += 2) {
                int high = hex_value(p[0]), low = high < 0 ? high : hex_value(p[1]);

                if (low < 0 || n >= MAX_HANDLE_SZ)
                        return -EINVAL;
                ret->f_handle[n++] = (unsigned char) (high << 4 | low);
        }
        ret->handle_bytes = n;
        return 0;
}

int inotify_watch_fd(int inotify_fd, int fd, uint32_t mask) {
        char path[PROC_FD_MAX];
        int r;

        proc_fd_path(path, fd, "");
        r = inotify_add_watch(inotify_fd, path, mask);
        return r < 0 ? -errno : r;
}

int inotify_foreach(int inotify_fd, inotify_func func, void *userdata) {
        _Alignas(struct inotify_event) char buffer[32 * 1024];
        ssize_t n;

        while ((n = read(inotify_fd, buffer, sizeof(buffer))) > 0)
                for (char *p = buffer; p < buffer + n;) {
                        const struct inotify_event *e = (const struct inotify_event *) p;
                        int r = func(e, userdata);

                        if (r < 0)
                                return r;
                        p += sizeof(*e) + e->len;
                }
        return n < 0 && errno != EAGAIN && errno != EINTR ? -errno : 0;
}

int fd_path(int fd, char **ret) {
        char link[PROC_FD_MAX], target[PATH_MAX];
        ssize_t n;

        proc_fd_path(link, fd, "");
        n = readlink(link, target, sizeof(target) - 1);
        if (n < 0)
                return -errno;
        if (n == sizeof(target) - 1)
                return -ENAMETOOLONG;
        target[n] = '\0';
        *ret = strdup(target);
        return *ret ? 0 : -ENOMEM;
}

int fd_is_same(int a, int b) {
        struct stat first, second;

        if (fstat(a, &first) < 0 || fstat(b, &second) < 0)
                return -errno;
        return first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

/* What lies outside of the root of a mount has a path as well, from the root of its file system. */
static bool is_at(int root_fd, const char *path, const struct stat *st) {
        _cleanup_close_ int fd = open_beneath(root_fd, path, O_PATH | O_DIRECTORY);
        struct stat there;

        return fd >= 0 && fstat(fd, &there) >= 0 && there.st_dev == st->st_dev && there.st_ino == st->st_ino;
}

int file_handle_open(int root_fd, const char *handle, char **ret_path) {
        FileHandle h = { 0 };
        _cleanup_free_ char *root = NULL, *path = NULL;
        _cleanup_close_ int fd = -EBADF;
        struct stat st;
        const char *below;
        int r = handle_parse(handle, &h.handle);

        if (r < 0)
                return r;
        fd = open_by_handle_at(root_fd, &h.handle, O_PATH | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        /* A removed directory stays openable while somebody holds it. */
        if (fstat(fd, &st) < 0)
                return -errno;
        if (st.st_nlink == 0)
                return -ESTALE;
        r = fd_path(root_fd, &root);
        if (r >= 0)
                r = fd_path(fd, &path);
        if (r < 0)
                return r;
        below = path_startswith(path, root);
        if (!below || !is_at(root_fd, below, &st))
                return -EXDEV;
        if (ret_path) {
                *ret_path = strdup(below);
                if (!*ret_path)
                        return -ENOMEM;
        }
        return TAKE_FD(fd);
}
