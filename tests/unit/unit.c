/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>

static struct {
        char directory[UNIT_PATH_MAX / 2];
        bool is_private; /* the process has a mount namespace of its own */
        bool is_mounted;
} scratch;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        return remove(path);
}

int scratch_setup(void **state) {
        const char *tmp = getenv("TMPDIR") ?: "/tmp";
        char *resolved;

        /* The paths of mount tables have no symlinks. */
        resolved = realpath(tmp, NULL);
        if (!resolved)
                return -1;
        (void) snprintf(scratch.directory, sizeof(scratch.directory), "%s/ovlfind-unit-XXXXXX", resolved);
        free(resolved);
        return mkdtemp(scratch.directory) ? 0 : -1;
}

int scratch_teardown(void **state) {
        if (scratch.is_mounted && umount2(scratch.directory, MNT_DETACH) < 0)
                return -1;
        scratch.is_mounted = false;
        return nftw(scratch.directory, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

Path at(const char *format, ...) {
        size_t n = strlen(scratch.directory);
        va_list ap;
        Path p;

        (void) snprintf(p.s, sizeof(p.s), "%s/", scratch.directory);
        va_start(ap, format);
        (void) vsnprintf(p.s + n + 1, sizeof(p.s) - n - 1, format, ap);
        va_end(ap);
        return p;
}

static void skip_or_fail(const char *what, int error) {
        const char *ci = getenv("CI");

        if (ci && strcmp(ci, "true") == 0)
                fail_msg("cannot %s: %s", what, strerror(error));
        print_message("skipped: cannot %s: %s\n", what, strerror(error));
        skip();
}

void need_mounts(void) {
        if (!scratch.is_private) {
                if (unshare(CLONE_NEWNS) < 0)
                        skip_or_fail("make a mount namespace (run as root)", errno);
                if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                        skip_or_fail("make mounts private", errno);
                scratch.is_private = true;
        }
        if (mount("scratch", scratch.directory, "tmpfs", 0, "mode=0755") < 0)
                skip_or_fail("mount a tmpfs", errno);
        scratch.is_mounted = true;
}

void mount_new_fs(const char *mkfs) {
        char command[5 * UNIT_PATH_MAX];

        make_directory(at("fs").s);
        (void) snprintf(
                command, sizeof(command),
                "PATH=$PATH:/usr/sbin:/sbin; truncate -s 320M '%s' && %s '%s' >&2 && mount -o loop '%s' "
                "'%s'",
                at("image").s, mkfs, at("image").s, at("image").s, at("fs").s);
        if (system(command) != 0)
                skip_or_fail(mkfs, ENODEV);
}

int open_directory(const char *path) {
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        assert_return_code(fd, errno);
        return fd;
}

void make_directory(const char *path) {
        char *copy = strdup(path);

        assert_non_null(copy);
        for (char *p = copy + 1; (p = strchr(p, '/')); *p++ = '/') {
                *p = '\0';
                (void) mkdir(copy, 0755);
        }
        if (mkdir(copy, 0755) < 0 && errno != EEXIST)
                fail_msg("mkdir %s: %s", path, strerror(errno));
        free(copy);
}

void make_file(const char *path, const void *data, size_t size) {
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

        if (fd < 0)
                fail_msg("open %s: %s", path, strerror(errno));
        assert_int_equal(write(fd, data, size), size);
        assert_return_code(close(fd), errno);
}

void make_text(const char *path, const char *text) {
        make_file(path, text, strlen(text));
}

void set_xattr(const char *path, const char *name, const char *value, size_t size) {
        if (lsetxattr(path, name, value, size, 0) < 0)
                fail_msg("setxattr %s %s: %s", path, name, strerror(errno));
}

void mount_overlay(const char *target, const char *options) {
        if (mount("unit test", target, "overlay", 0, options) < 0)
                fail_msg("mount overlay -o %s: %s", options, strerror(errno));
}

void list_directory(const char *path, char *buffer, size_t size) {
        struct dirent **names;
        int n = scandir(path, &names, NULL, alphasort);
        size_t used = 0;

        assert_true(n >= 0);
        buffer[0] = '\0';
        for (int i = 0; i < n; i++) {
                if (strcmp(names[i]->d_name, ".") != 0 && strcmp(names[i]->d_name, "..") != 0 && used < size)
                        used += (size_t) snprintf(
                                buffer + used, size - used, used > 0 ? " %s" : "%s", names[i]->d_name);
                free(names[i]);
        }
        free(names);
}

_Noreturn static void neighbour_run(int ready_fd, int hold_fd, void (*prepare)(void *), void *userdata) {
        char c = 0;

        if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                _exit(1);
        if (prepare)
                prepare(userdata);
        if (write(ready_fd, &c, 1) != 1)
                _exit(1);
        while (read(hold_fd, &c, 1) < 0 && errno == EINTR)
                ;
        _exit(0);
}

void neighbour_start(Neighbour *n, void (*prepare)(void *userdata), void *userdata) {
        int ready[2], hold[2];
        char c;

        assert_return_code(pipe2(ready, O_CLOEXEC), errno);
        assert_return_code(pipe2(hold, O_CLOEXEC), errno);
        n->pid = fork();
        assert_return_code(n->pid, errno);
        if (n->pid == 0) {
                (void) close(ready[0]);
                (void) close(hold[1]);
                neighbour_run(ready[1], hold[0], prepare, userdata);
        }
        (void) close(ready[1]);
        (void) close(hold[0]);
        n->fd = hold[1];
        assert_int_equal(read(ready[0], &c, 1), 1);
        (void) close(ready[0]);
}

void neighbour_stop(Neighbour *n) {
        int status;

        (void) close(n->fd);
        assert_int_equal(waitpid(n->pid, &status, 0), n->pid);
        assert_int_equal(status, 0);
}

uint64_t random_next(uint64_t *seed) {
        *seed ^= *seed >> 12;
        *seed ^= *seed << 25;
        *seed ^= *seed >> 27;
        return *seed * UINT64_C(2685821657736338717);
}

void assert_contains_(const char *haystack, const char *needle, const char *file, int line) {
        if (haystack && strstr(haystack, needle))
                return;
        print_error("'%s' does not contain '%s'\n", haystack ?: "(null)", needle);
        _fail(file, line);
}
