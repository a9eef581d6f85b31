/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "base/glob.h"
#include "unit.h"

static bool matches(const char *const *patterns, const char *path, bool *ret_descend) {
        _cleanup_(globs_done) Globs g = { 0 };
        char copy[UNIT_PATH_MAX], *state;
        GlobState s;

        assert_int_equal(globs_new((char *const *) patterns, &g), 0);
        s = globs_begin(&g);
        (void) snprintf(copy, sizeof(copy), "%s", path);
        for (char *c = strtok_r(copy, "/", &state); c; c = strtok_r(NULL, "/", &state))
                s = globs_step(&g, s, c);
        *ret_descend = globs_may_descend(&g, s);
        return globs_is_match(&g, s);
}

static void test_follow(void **state) {
        static const struct {
                const char *pattern, *path;
                bool is_match, may_descend;
        } cases[] = {
                { "blah/*/version*/lib", "", false, true },
                { "blah/*/version*/lib", "blah/x", false, true },
                { "blah/*/version*/lib", "blah/x/version2/lib", true, false },
                { "blah/*/version*/lib", "blah/x/version2/lib/y", false, false },
                { "blah/*/version*/lib", "blah/x/old/lib", false, false },
                { "blah/*/version*/lib", "bla/x/version2/lib", false, false },
                { "**", "", true, true },
                { "**", "a/b/c", true, true },
                { "tmp/**", "tmp", true, true },
                { "tmp/**", "tmp/a/b", true, true },
                { "tmp/**", "tmpfiles", false, false },
                { "**/lib", "lib", true, true },
                { "**/lib", "a/b/lib", true, true },
                { "**/lib", "a/lib/b", false, true },
                { "a/**/z", "a/z", true, true },
                { "a/**/z", "a/b/c/z", true, true },
                { "a/**/z", "b/z", false, false },
                { "[ab]/?.1", "b/x.1", true, false },
                { "a*", "a*", true, false },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                const char *patterns[] = { cases[i].pattern, NULL };
                bool may_descend;

                assert_int_equal(matches(patterns, cases[i].path, &may_descend), cases[i].is_match);
                assert_int_equal(may_descend, cases[i].may_descend);
        }
}

static void test_several(void **state) {
        const char *patterns[] = { "a/b", "a/*/c", NULL }, *none[] = { NULL };
        bool may_descend;

        assert_true(matches(patterns, "a/b", &may_descend));
        assert_true(may_descend);
        assert_true(matches(patterns, "a/b/c", &may_descend));
        assert_false(matches(none, "a", &may_descend));
        assert_false(may_descend);
}

static void test_within(void **state) {
        char *const patterns[] = { (char *) "tmp", (char *) "*/cache", NULL };
        _cleanup_(globs_done) Globs g = { 0 };

        assert_int_equal(globs_new(patterns, &g), 0);
        assert_true(globs_match_within(&g, "tmp"));
        assert_true(globs_match_within(&g, "tmp/x/y"));
        assert_true(globs_match_within(&g, "a/cache/b"));
        assert_false(globs_match_within(&g, "a/b/cache"));
        assert_false(globs_match_within(&g, ""));
}

/* Which part of a path is a release. */
static void test_prefix(void **state) {
        char *const patterns[] = { (char *) "*/*", (char *) "tools", NULL };
        _cleanup_(globs_done) Globs g = { 0 };

        assert_int_equal(globs_new(patterns, &g), 0);
        assert_int_equal(globs_match_prefix(&g, "app/1.0/lib/x"), 7);
        assert_int_equal(globs_match_prefix(&g, "app/1.0"), 7);
        assert_int_equal(globs_match_prefix(&g, "tools/bin"), 5);
        assert_int_equal(globs_match_prefix(&g, "app"), -ENOENT);
        assert_int_equal(globs_match_prefix(&g, ""), -ENOENT);
        assert_true(globs_match(&g, "app/1.0"));
        assert_true(globs_match(&g, "tools/bin"));
        assert_false(globs_match(&g, "app/1.0/lib"));
}

static void test_refused(void **state) {
        char *const absolute[] = { (char *) "/a", NULL }, *const dots[] = { (char *) "a/../b", NULL };
        char *many[GLOB_POSITIONS_MAX / 2 + 2] = { 0 };
        _cleanup_(globs_done) Globs g = { 0 };

        assert_int_equal(globs_new(absolute, &g), -EINVAL);
        assert_int_equal(globs_new(dots, &g), -EINVAL);
        for (size_t i = 0; i < GLOB_POSITIONS_MAX / 2; i++)
                many[i] = (char *) "a";
        assert_int_equal(globs_new(many, &g), 0);
        globs_done(&g);
        many[GLOB_POSITIONS_MAX / 2] = (char *) "a";
        assert_int_equal(globs_new(many, &g), -E2BIG);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_follow), cmocka_unit_test(test_several), cmocka_unit_test(test_within),
                cmocka_unit_test(test_prefix), cmocka_unit_test(test_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
