/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "core/upper/layer.h"

static int open_upper(const char *path) {
        int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

        assert_return_code(fd, errno);
        return fd;
}

static void make_node(const char *path, mode_t mode, dev_t device) {
        assert_return_code(mknod(path, mode | 0600, device), errno);
}

static void make_entry(const char *path, char kind) {
        switch (kind) {
        case 'd':
                make_directory(path);
                break;
        case 'f':
                make_text(path, "data");
                break;
        case 'l':
                assert_return_code(symlink("d", path), errno);
                break;
        case 'p':
                make_node(path, S_IFIFO, 0);
                break;
        case 'w':
                make_node(path, S_IFCHR, makedev(0, 0));
                break;
        case 'c':
                make_node(path, S_IFCHR, makedev(1, 3));
                break;
        case 'b': /* not a whiteout: that is a character device */
                make_node(path, S_IFBLK, makedev(0, 0));
                break;
        }
}

/* docs/overlayfs.md 1.1, 1.2. */
static void test_classes(void **state) {
        static const struct {
                char kind;
                const char *xattr, *value;
                size_t size;
                UpperClass class;
                unsigned char type;
        } rows[] = {
                { 'f', NULL, NULL, 0, UPPER_COMPLETE, DT_REG },
                { 'f', XATTR_METACOPY, "", 0, UPPER_METACOPY, DT_REG },
                { 'f', XATTR_METACOPY, "\0\0\0\0", 4, UPPER_METACOPY, DT_REG },
                { 'f', XATTR_REDIRECT, "/a", 2, UPPER_COMPLETE, DT_REG },
                { 'f', XATTR_OPAQUE, "y", 1, UPPER_COMPLETE, DT_REG },
                { 'f', XATTR_WHITEOUT, "", 0, UPPER_COMPLETE, DT_REG },
                { 'l', NULL, NULL, 0, UPPER_COMPLETE, DT_LNK },
                { 'p', NULL, NULL, 0, UPPER_COMPLETE, DT_FIFO },
                { 'p', XATTR_METACOPY, "", 0, UPPER_COMPLETE,
                  DT_FIFO }, /* only regular files can be metacopy */
                { 'w', XATTR_METACOPY, "", 0, UPPER_WHITEOUT, DT_CHR },
                { 'c', NULL, NULL, 0, UPPER_COMPLETE, DT_CHR },
                { 'b', NULL, NULL, 0, UPPER_COMPLETE, DT_BLK },
                { 'w', NULL, NULL, 0, UPPER_WHITEOUT, DT_CHR },
                { 'd', NULL, NULL, 0, UPPER_PLAIN, DT_DIR },
                { 'd', XATTR_METACOPY, "", 0, UPPER_PLAIN, DT_DIR },
                { 'd', XATTR_IMPURE, "y", 1, UPPER_PLAIN, DT_DIR },
                { 'd', XATTR_OPAQUE, "y", 1, UPPER_OPAQUE, DT_DIR },
                { 'd', XATTR_OPAQUE, "yes", 3, UPPER_PLAIN, DT_DIR },
                { 'd', XATTR_OPAQUE, "y\0", 2, UPPER_PLAIN, DT_DIR },
                { 'd', XATTR_OPAQUE, "z", 1, UPPER_PLAIN, DT_DIR },
                { 'd', XATTR_OPAQUE, "x", 1, UPPER_PLAIN, DT_DIR },
                { 'd', XATTR_OPAQUE, "", 0, UPPER_PLAIN, DT_DIR },
                { 'd', XATTR_REDIRECT, "/a", 2, UPPER_REDIRECT, DT_DIR },
                { 'd', XATTR_REDIRECT, "a", 1, UPPER_REDIRECT, DT_DIR },
        };
        _cleanup_close_ int fd = -EBADF;

        need_mounts();
        make_directory(at("d").s);
        fd = open_upper(at("d").s);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(upper_entry_done) UpperEntry e = { 0 };
                char name[8];
                struct stat st;

                (void) snprintf(name, sizeof(name), "e%zu", i);
                make_entry(at("d/%s", name).s, rows[i].kind);
                if (rows[i].xattr)
                        set_xattr(at("d/%s", name).s, rows[i].xattr, rows[i].value, rows[i].size);
                assert_return_code(upper_entry_read(fd, name, &e), 0);
                assert_return_code(lstat(at("d/%s", name).s, &st), errno);
                assert_int_equal(e.class, rows[i].class);
                assert_int_equal(e.type, rows[i].type);
                assert_int_equal(e.inode, st.st_ino);
                assert_int_equal(e.size, st.st_size);
                assert_int_equal(e.n_links, st.st_nlink);
                assert_false(e.has_origin);
        }
}

static void test_details(void **state) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 }, self = { 0 }, missing = { .inode = 1 };
        _cleanup_close_ int fd = -EBADF;

        need_mounts();
        make_directory(at("d/sub").s);
        set_xattr(at("d").s, XATTR_OPAQUE, "y", 1);
        set_xattr(at("d/sub").s, XATTR_REDIRECT, "/x y\n:", 6);
        set_xattr(at("d/sub").s, XATTR_OPAQUE, "y", 1);
        set_xattr(at("d/sub").s, XATTR_ORIGIN, "", 0); /* the lower file system has no handles */
        fd = open_upper(at("d").s);
        assert_return_code(upper_entry_read(fd, "sub", &e), 0);
        assert_int_equal(e.class, UPPER_OPAQUE);
        assert_string_equal(e.redirect, "/x y\n:");
        assert_true(e.has_origin);
        assert_return_code(upper_entry_read(fd, "", &self), 0);
        assert_int_equal(self.class, UPPER_OPAQUE);
        assert_int_equal(self.type, DT_DIR);
        assert_return_code(upper_entry_read(fd, "none", &missing), 0);
        assert_int_equal(missing.class, UPPER_MISSING);
        assert_int_equal(missing.type, DT_UNKNOWN);
        assert_int_equal(missing.inode, 0);
        assert_null(missing.redirect);
}

/* Neither a link nor a mount in the upper leads elsewhere, and nothing is opened: a FIFO would hang, a
 * directory of mode 0 would not open for another user. */
static void test_strangers(void **state) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        _cleanup_close_ int fd = -EBADF;
        bool in_upper;
        char *lower;

        need_mounts();
        make_directory(at("d/mounted").s);
        make_directory(at("elsewhere/sub").s);
        assert_return_code(symlink("../elsewhere", at("d/link").s), errno);
        assert_return_code(mount("other", at("d/mounted").s, "tmpfs", 0, NULL), errno);
        fd = open_upper(at("d").s);
        assert_return_code(upper_entry_read(fd, "link", &e), 0);
        assert_int_equal(e.type, DT_LNK);
        assert_int_equal(upper_entry_read(fd, "mounted", &e), -EXDEV);
        assert_int_equal(upper_entry_read(fd, "link/sub", &e), -ELOOP);
        assert_int_equal(upper_entry_read(fd, "../elsewhere", &e), -EXDEV);
        assert_int_equal(upper_lower_path(fd, "link/sub", &lower, &in_upper), -ENOTDIR);
        assert_int_equal(upper_lower_path(fd, "mounted/x", &lower, &in_upper), -EXDEV);
}

static void test_questions(void **state) {
        static const struct {
                UpperClass class;
                const char *redirect;
                bool is_merge_child, is_absolute;
        } rows[] = {
                { UPPER_MISSING, NULL, false, false }, { UPPER_WHITEOUT, NULL, false, false },
                { UPPER_METACOPY, NULL, true, false }, { UPPER_METACOPY, "f", true, false },
                { UPPER_METACOPY, "/f", true, true },  { UPPER_COMPLETE, "/f", false, true },
                { UPPER_OPAQUE, "/d", false, true },   { UPPER_REDIRECT, "d", true, false },
                { UPPER_REDIRECT, "/d", true, true },  { UPPER_PLAIN, NULL, false, false },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                UpperEntry e = { .class = rows[i].class, .redirect = (char *) rows[i].redirect };

                assert_int_equal(upper_entry_is_merge_child(&e), rows[i].is_merge_child);
                assert_int_equal(upper_entry_has_absolute_redirect(&e), rows[i].is_absolute);
        }
}

static int lower_path_of(int upper_fd, const char *path, int fd, const char *expected) {
        _cleanup_free_ char *lower = NULL;
        int r = upper_lower_path_of(upper_fd, path, fd, &lower);

        if (r >= 0)
                assert_string_equal(lower, expected);
        return r;
}

/* Of a directory that is open: whatever stands at its path by now, the answer is about it, or there is none.
 * Needs no xattrs, and so no mounts. */
static void test_lower_path_of(void **state) {
        _cleanup_close_ int upper_fd = -EBADF, fd = -EBADF;

        make_directory(at("u/a/b").s);
        make_text(at("u/a/file").s, "");
        assert_return_code(symlink("b", at("u/a/link").s), errno);
        upper_fd = open_upper(at("u").s);
        fd = open_upper(at("u/a/b").s);
        assert_return_code(lower_path_of(upper_fd, "a/b", fd, "a/b"), 0);
        assert_return_code(lower_path_of(upper_fd, "", upper_fd, ""), 0);
        assert_return_code(rename(at("u/a/b").s, at("u/a/c").s), errno);
        assert_int_equal(lower_path_of(upper_fd, "a/b", fd, NULL), -ESTALE); /* in the lower, if at all */
        make_directory(at("u/a/b").s);
        assert_int_equal(lower_path_of(upper_fd, "a/b", fd, NULL), -ESTALE);
        assert_return_code(lower_path_of(upper_fd, "a/c", fd, "a/c"), 0);
        assert_int_equal(lower_path_of(upper_fd, "a/file", fd, NULL), -ENOTDIR);
        assert_int_equal(lower_path_of(upper_fd, "a/link", fd, NULL), -ENOTDIR);
        assert_return_code(rmdir(at("u/a/b").s), errno);
        make_node(at("u/a/b").s, S_IFCHR, makedev(0, 0));
        assert_int_equal(lower_path_of(upper_fd, "a/b", fd, NULL), -ENOENT);
}

/* A tree of directories on which the kernel is asked to do what users do; each lower directory holds a file
 * that says where it stands in the lower. */
enum {
        N_NAMES = 3,
        DEPTH = 3,
        N_OPERATIONS = 1500,
};

static void make_lower_tree(const char *path, int depth) {
        make_directory(at("l/%s", path).s);
        make_text(at("l/%s/.id", path).s, path);
        for (int i = 0; i < N_NAMES && depth > 0; i++) {
                Path below;

                (void) snprintf(below.s, sizeof(below.s), path[0] ? "%s/%c" : "%s%c", path, 'a' + i);
                make_lower_tree(below.s, depth - 1);
        }
}

static void random_path(uint64_t *seed, char *buffer) {
        int depth = 1 + (int) (random_next(seed) % DEPTH);
        char *p = buffer;

        for (int i = 0; i < depth; i++)
                p += sprintf(p, i > 0 ? "/%c" : "%c", (char) ('a' + random_next(seed) % N_NAMES));
}

/* Most fail (no such entry, not empty): the kernel decides. An id that is unlinked for rmdir() is gone for
 * good. */
static void random_operation(uint64_t *seed) {
        char a[16], b[16];

        random_path(seed, a);
        random_path(seed, b);
        switch (random_next(seed) % 24) {
        case 0:
                (void) mkdir(at("mp/%s", a).s, 0755);
                break;
        case 1:
                (void) unlink(at("mp/%s/.id", a).s);
                (void) rmdir(at("mp/%s", a).s);
                break;
        case 2:
        case 3:
        case 4:
                (void) renameat2(AT_FDCWD, at("mp/%s", a).s, AT_FDCWD, at("mp/%s", b).s, RENAME_EXCHANGE);
                break;
        case 5:
                assert_true(chmod(at("mp/%s", a).s, 0755) >= 0 || errno == ENOENT || errno == ENOTDIR);
                break;
        default:
                (void) rename(at("mp/%s", a).s, at("mp/%s", b).s);
                break;
        }
}

static ssize_t read_id(const char *path, char *buffer, size_t size) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, buffer, size - 1);

        buffer[n > 0 ? n : 0] = '\0';
        return n;
}

/* Returns whether path is a directory with a lower counterpart of another name. */
static bool compare_with_kernel(int upper_fd, const char *path) {
        _cleanup_free_ char *lower = NULL;
        bool in_upper = false;
        struct stat st;
        char id[32];
        int r = upper_lower_path(upper_fd, path, &lower, &in_upper);

        if (stat(at("mp/%s", path).s, &st) < 0) {
                assert_int_equal(errno, ENOENT);
                return false; /* what the upper does not hold may be missing in the lower */
        }
        if (r < 0)
                fail_msg("'%s' exists, but: %s", path, strerror(-r));
        assert_int_equal(in_upper, lstat(at("u/%s", path).s, &st) >= 0);
        if (read_id(at("mp/%s/.id", path).s, id, sizeof(id)) < 0)
                return false; /* pure, or the id was removed */
        if (!lower || strcmp(lower, id) != 0)
                fail_msg("'%s' is '%s' below, not '%s'", path, id, lower ?: "(none)");
        return strcmp(lower, path) != 0;
}

static size_t compare_all(int upper_fd) {
        char path[8];
        size_t n = 0;

        for (int a = 'a'; a < 'a' + N_NAMES; a++) {
                n += compare_with_kernel(upper_fd, (char[]){ (char) a, '\0' });
                for (int b = 'a'; b < 'a' + N_NAMES; b++) {
                        (void) snprintf(path, sizeof(path), "%c/%c", a, b);
                        n += compare_with_kernel(upper_fd, path);
                        for (int c = 'a'; c < 'a' + N_NAMES; c++) {
                                (void) snprintf(path, sizeof(path), "%c/%c/%c", a, b, c);
                                n += compare_with_kernel(upper_fd, path);
                        }
                }
        }
        return n;
}

/* The kernel writes the redirects, whiteouts and opaque marks; what is computed from them has to be what it
 * shows. */
static void test_lower_path_kernel(void **state) {
        char options[4 * UNIT_PATH_MAX];
        uint64_t seed = 11;
        size_t n = 0;

        need_mounts();
        make_lower_tree("", DEPTH);
        make_directory(at("u").s);
        make_directory(at("w").s);
        make_directory(at("mp").s);
        (void) snprintf(
                options, sizeof(options), "lowerdir=%s,upperdir=%s,workdir=%s,metacopy=on", at("l").s,
                at("u").s, at("w").s);
        mount_overlay(at("mp").s, options);
        for (size_t i = 0; i < N_OPERATIONS; i++) {
                _cleanup_close_ int fd = open_upper(at("u").s);

                random_operation(&seed);
                if (i % 10 == 0)
                        n += compare_all(fd);
        }
        print_message("%zu moved directories compared\n", n);
        assert_true(n > 500); /* else the test has become empty */
}

int main(void) {
        const struct CMUnitTest tests[] = {
                unit_test_scratch(test_classes),       unit_test_scratch(test_details),
                unit_test_scratch(test_strangers),     cmocka_unit_test(test_questions),
                unit_test_scratch(test_lower_path_of), unit_test_scratch(test_lower_path_kernel),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
