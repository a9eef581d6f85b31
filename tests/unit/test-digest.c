/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "core/upper/digest.h"

static const struct stat file = {
        .st_mode = S_IFREG | 0644,
        .st_uid = 1000,
        .st_gid = 100,
        .st_size = 4096,
        .st_nlink = 1,
        .st_ino = 42,
        .st_mtim = { .tv_sec = 1600000000, .tv_nsec = 500 },
        .st_ctim = { .tv_sec = 1600000001, .tv_nsec = 700 },
};

/* What a user or a release changes is seen; what a copy-up, a link or a backup changes is not. */
static void test_stat(void **state) {
        struct stat size = file, mode = file, type = file, uid = file, gid = file, device = file,
                    time = file, other = file;

        size.st_size++;
        mode.st_mode |= S_IXUSR;
        type.st_mode = S_IFLNK | 0644;
        uid.st_uid = 0;
        gid.st_gid = 0;
        device.st_rdev = 1;
        time.st_mtim.tv_sec++;
        const struct stat *changed[] = { &size, &mode, &type, &uid, &gid, &device, &time };

        other.st_ino = 43;
        other.st_dev = 7;
        other.st_nlink = 2;
        other.st_blocks = 8;
        other.st_mtim.tv_nsec = 0; /* some upper file systems keep no more */
        other.st_atim.tv_sec = other.st_ctim.tv_sec = 1700000000;
        assert_true(digest_stat(&file) == digest_stat(&other));
        assert_true(digest_stat(&file) != 0);
        for (size_t i = 0; i < ELEMENTSOF(changed); i++)
                if (digest_stat(&file) == digest_stat(changed[i]))
                        fail_msg("change %zu is not seen", i);
}

static void test_content(void **state) {
        struct stat size = file, second = file, nanosecond = file, other = file;

        size.st_size--;
        second.st_mtim.tv_sec--;
        nanosecond.st_mtim.tv_nsec--;
        other.st_mode = S_IFREG | 0600;
        other.st_uid = other.st_gid = 0;
        other.st_ino = 43;
        assert_true(digest_content(&file) == digest_content(&other));
        assert_true(digest_content(&file) != digest_content(&size));
        assert_true(digest_content(&file) != digest_content(&second));
        assert_true(digest_content(&file) != digest_content(&nanosecond));
        assert_true(digest_content(&file) != digest_stat(&file)); /* one stands in the place of the other */
        assert_true(digest_content(&file) != 0);
}

static void test_ctime(void **state) {
        assert_true(digest_ctime(&file) == UINT64_C(1600000001000000700));
}

static int open_scratch(void) {
        int fd = open(at("%s", "").s, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        assert_return_code(fd, errno);
        return fd;
}

static bool set_user_xattr(const char *name, const char *key, const char *value) {
        if (lsetxattr(at("%s", name).s, key, value, strlen(value), 0) >= 0)
                return true;
        assert_int_equal(errno, EOPNOTSUPP);
        return false;
}

static void test_xattrs(void **state) {
        _cleanup_close_ int fd = open_scratch();
        uint64_t none, one, two;

        make_text(at("a").s, "a");
        make_text(at("b").s, "another");
        none = digest_xattrs(fd, "a");
        assert_true(none != 0);
        assert_true(none == digest_xattrs(fd, "b"));
        assert_true(digest_xattrs(fd, "missing") == 0);
        if (!set_user_xattr("a", "user.one", "1"))
                skip();
        one = digest_xattrs(fd, "a");
        assert_true(one != none);
        (void) set_user_xattr("a", "user.two", "2");
        two = digest_xattrs(fd, "a");
        assert_true(two != one);
        (void) set_user_xattr("b", "user.two", "2"); /* in the other order */
        (void) set_user_xattr("b", "user.one", "1");
        assert_true(digest_xattrs(fd, "b") == two);
        (void) set_user_xattr("b", "user.one", "3");
        assert_true(digest_xattrs(fd, "b") != two);
        (void) set_user_xattr("b", "user.one", "2"); /* the values changed places */
        (void) set_user_xattr("b", "user.two", "1");
        assert_true(digest_xattrs(fd, "b") != two);
        assert_return_code(removexattr(at("a").s, "user.two"), errno);
        assert_true(digest_xattrs(fd, "a") == one);
}

/* Its size and its times change with its names, and say nothing. */
static void test_directory(void **state) {
        _cleanup_close_ int fd = open_scratch();
        uint64_t d;

        make_directory(at("d").s);
        make_directory(at("same").s);
        d = digest_directory(fd, "d");
        assert_true(d > BASELINE_IN_TRANSIT);
        assert_true(d == digest_directory(fd, "same"));
        make_text(at("d/file").s, "");
        make_directory(at("d/below").s);
        assert_true(d == digest_directory(fd, "d"));
        assert_return_code(chmod(at("d").s, 0700), errno);
        assert_true(d != digest_directory(fd, "d"));
        assert_return_code(chmod(at("d").s, 0755), errno);
        assert_true(d == digest_directory(fd, "d"));
        if (set_user_xattr("d", "user.one", "1"))
                assert_true(d != digest_directory(fd, "d"));
        assert_true(digest_directory(fd, "d/file") == 0);
        assert_true(digest_directory(fd, "missing") == 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_stat),       cmocka_unit_test(test_content),
                cmocka_unit_test(test_ctime),      unit_test_scratch(test_xattrs),
                unit_test_scratch(test_directory),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
