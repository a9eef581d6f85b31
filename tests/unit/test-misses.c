/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "core/misses/misses-internal.h"
#include "unit.h"

/* Names as the kernel gives them: from the directory upwards. */
static MissesDirectory directory(const char *names, size_t length) {
        MissesDirectory d = { .length = (uint32_t) length };

        memcpy(d.names, names, length);
        return d;
}

#define DIRECTORY(names) directory(names, sizeof(names) - 1)

static void assert_path(const MissesDirectory *d, const char *root, const char *expected) {
        char path[MISSES_NAMES] = "";

        assert_int_equal(misses_path(d, root, path), 1);
        assert_string_equal(path, expected);
}

static void assert_no_path(const MissesDirectory *d, const char *root, int r) {
        char path[MISSES_NAMES];

        assert_int_equal(misses_path(d, root, path), r);
}

static void test_names_become_a_path(void **state) {
        const MissesDirectory root = DIRECTORY(""), one = DIRECTORY("geo\0"),
                              three = DIRECTORY("lib\0003.1\0geo\0"), odd = DIRECTORY("a\nb \xff\0..x\0");

        assert_path(&root, "/", "");
        assert_path(&one, "/", "geo");
        assert_path(&three, "/", "geo/3.1/lib");
        assert_path(&odd, "/", "..x/a\nb \xff");
}

/* A mount need not begin at the root of its superblock. */
static void test_roots_of_mounts(void **state) {
        const MissesDirectory d = DIRECTORY("lib\0003.1\0geo\0"), at = DIRECTORY("3.1\0geo\0"),
                              beside = DIRECTORY("lib\0003.10\0geo\0"), above = DIRECTORY("geo\0"),
                              top = DIRECTORY("");

        assert_path(&d, "/geo", "3.1/lib");
        assert_path(&d, "/geo/3.1", "lib");
        assert_path(&at, "/geo/3.1", "");
        assert_no_path(&beside, "/geo/3.1", 0);
        assert_no_path(&above, "/geo/3.1", 0);
        assert_no_path(&top, "/geo", 0);
}

/* What was too deep, too long, or changed while it was read. */
static void test_what_has_no_path(void **state) {
        MissesDirectory d = DIRECTORY("lib\0geo\0");

        d.length = MISSES_NAMES + 1;
        assert_no_path(&d, "/", -ENAMETOOLONG);
        d.length = UINT32_MAX;
        assert_no_path(&d, "/", -ENAMETOOLONG);
        d.length = 7; /* a name without its end */
        assert_no_path(&d, "/", -ENAMETOOLONG);
        d = DIRECTORY("lib\0\0geo\0");
        assert_no_path(&d, "/", -ENAMETOOLONG);
        d = DIRECTORY("\0");
        assert_no_path(&d, "/", -ENAMETOOLONG);
        d = DIRECTORY("/\0");
        assert_no_path(&d, "/", -ENAMETOOLONG);
}

/* As long as there is room for, as names of any length. */
static void test_longest(void **state) {
        char path[MISSES_NAMES];

        for (size_t size = 1; size < 256; size++) {
                MissesDirectory d = { 0 };

                while (d.length + size + 1 <= MISSES_NAMES) {
                        memset(d.names + d.length, 'x', size);
                        d.names[d.length + size] = '\0';
                        d.length += (uint32_t) size + 1;
                }
                assert_int_equal(misses_path(&d, "/", path), 1);
                assert_int_equal(strlen(path), d.length - 1);
        }
}

static void test_order(void **state) {
        const MissesDirectory idle = { 0 }, saved = { .n_saved = 9 }, asked = { .n_asked = 2, .n_saved = 1 },
                              both = { .n_asked = 2, .n_saved = 5 }, most = { .n_asked = 3 };
        const MissesDirectory *d[] = { &saved, &most, &idle, &asked, &both };

        qsort(d, ELEMENTSOF(d), sizeof(d[0]), misses_compare);
        assert_ptr_equal(d[0], &most);
        assert_ptr_equal(d[1], &both);
        assert_ptr_equal(d[2], &asked);
        assert_ptr_equal(d[3], &saved);
        assert_ptr_equal(d[4], &idle);
        assert_int_equal(misses_compare(&d[0], &d[0]), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names_become_a_path),
                cmocka_unit_test(test_roots_of_mounts),
                cmocka_unit_test(test_what_has_no_path),
                cmocka_unit_test(test_longest),
                cmocka_unit_test(test_order),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
