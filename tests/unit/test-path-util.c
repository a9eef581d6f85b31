/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <string.h>

#include "base/path-util.h"

static void test_join(void **state) {
        static const struct {
                const char *a, *b, *expected;
        } rows[] = {
                { "a", "b", "a/b" },
                { "", "b", "b" },
                { "a", "", "a" },
                { "", "", "" },
                { "/", "b", "/b" },
                { "/a/", "b", "/a/b" },
                { "a/b", "c/d", "a/b/c/d" },
                { "/", "", "/" },
                { "a", " ", "a/ " },
                { "a\n", "b", "a\n/b" },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_free_ char *p = path_join(rows[i].a, rows[i].b);

                assert_string_equal(p, rows[i].expected);
        }
}

static void test_startswith(void **state) {
        static const struct {
                const char *path, *prefix, *expected;
        } rows[] = {
                { "/up", "/up", "" },      { "/up/a/b", "/up", "a/b" },
                { "/upper", "/up", NULL }, { "/up", "/upper", NULL },
                { "/up", "/", "up" },      { "/", "/", "" },
                { "/up", "", "up" },       { "a/b", "", "a/b" },
                { "a/b", "a", "b" },       { "ab", "a", NULL },
                { "/a/b", "/a/", "b" },    { "/a", "/a/", "" },
                { "/a//b", "/a", "b" },    { "", "", "" },
                { "", "a", NULL },         { "/a/bc", "/a/b", NULL },
                { "/A", "/a", NULL },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                const char *p = path_startswith(rows[i].path, rows[i].prefix);

                if (!rows[i].expected)
                        assert_null(p);
                else
                        assert_string_equal(p, rows[i].expected);
        }
}

static void test_simplify(void **state) {
        static const struct {
                const char *path, *expected; /* NULL: refused */
        } rows[] = {
                { "/", "/" },
                { "//", "/" },
                { "/a", "/a" },
                { "/a/", "/a" },
                { "//a///b//", "/a/b" },
                { "a/./b/.", "a/b" },
                { "./a", "a" },
                { ".", "" },
                { "", "" },
                { "/./", "/" },
                { "..", NULL },
                { "/a/..", NULL },
                { "a/../b", NULL },
                { "/a/...", "/a/..." },
                { "/a/..b", "/a/..b" },
                { "/.a/b.", "/.a/b." },
                { "/a/. /b", "/a/. /b" },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_free_ char *p = strdup(rows[i].path);
                int r = path_simplify(p);

                assert_int_equal(r, rows[i].expected ? 0 : -EINVAL);
                if (rows[i].expected)
                        assert_string_equal(p, rows[i].expected);
        }
}

/* Whatever comes out has no empty component, no "." and no "..", and is left alone by a second call. */
static void test_simplify_any(void **state) {
        static const char alphabet[] = "/./.a";
        uint64_t seed = 20;

        for (size_t i = 0; i < 20000; i++) {
                char p[16], again[16];
                size_t n = random_next(&seed) % sizeof(p);

                for (size_t k = 0; k < n; k++)
                        p[k] = alphabet[random_next(&seed) % (sizeof(alphabet) - 1)];
                p[n < sizeof(p) ? n : n - 1] = '\0';
                if (path_simplify(p) < 0)
                        continue;
                (void) strcpy(again, p);
                assert_return_code(path_simplify(again), 0);
                assert_string_equal(again, p);
                assert_null(strstr(p, "//"));
                assert_null(strstr(p, "/./"));
                assert_null(strstr(p, "/../"));
                assert_true(strlen(p) < 2 || p[strlen(p) - 1] != '/');
        }
}

static void test_parts(void **state) {
        static const struct {
                const char *path, *directory, *name;
        } rows[] = {
                { "a", "", "a" },      { "a/b", "a", "b" }, { "/a", "", "a" },
                { "/a/b", "/a", "b" }, { "", "", "" },      { "a/b/c d", "a/b", "c d" },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_free_ char *d = path_dirname(rows[i].path);

                assert_string_equal(d, rows[i].directory);
                assert_string_equal(path_basename(rows[i].path), rows[i].name);
        }
}

static void test_list_sort(void **state) {
        static const char *const paths[] = { "a/b", "b", "a", "a/b", "a/b/c", "a" };
        static const char *const sorted[] = { "a", "a/b", "a/b/c", "b" };
        PathList l = { 0 };

        path_list_sort(&l);
        assert_int_equal(l.n, 0);
        for (size_t i = 0; i < ELEMENTSOF(paths); i++)
                assert_int_equal(path_list_add(&l, paths[i]), 0);
        path_list_sort(&l);
        assert_int_equal(l.n, ELEMENTSOF(sorted));
        for (size_t i = 0; i < l.n; i++)
                assert_string_equal(l.items[i], sorted[i]);
        path_list_done(&l);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_join),     cmocka_unit_test(test_startswith),
                cmocka_unit_test(test_simplify), cmocka_unit_test(test_simplify_any),
                cmocka_unit_test(test_parts),    cmocka_unit_test(test_list_sort),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
