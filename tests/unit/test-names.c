/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include "core/upper/names.h"

#define ID "0123456789abcdef"

/* Users have names that begin like ours: those are never left out. */
static void test_staging_name(void **state) {
        static const struct {
                const char *name;
                bool is_ours;
        } rows[] = {
                { ".ovlfind", true },
                { ".ovlfind/" ID, true },
                { ".ovlfind/" ID "/tree/a", true },
                { ".ovlfind-old-" ID, true },
                { ".ovlfind-old-" ID "/a/b", true },
                { "", false },
                { "a", false },
                { ".ovlfin", false },
                { ".ovlfind2", false },
                { ".ovlfind-", false },
                { ".ovlfind-old", false },
                { ".ovlfind-old-", false },
                { ".ovlfind-old-notes", false },
                { ".ovlfind-old-0123456789ABCDEF", false },
                { ".ovlfind-old-0123456789abcde", false },
                { ".ovlfind-old-0123456789abcdef0", false },
                { ".ovlfind-old-0123456789abcde/f", false },
                { "a/.ovlfind", false },
                { "a/.ovlfind-old-" ID, false },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                if (is_staging_name(rows[i].name) != rows[i].is_ours)
                        fail_msg("'%s' is%s ours", rows[i].name, rows[i].is_ours ? "" : " not");
}

static void test_old_tree_id(void **state) {
        assert_string_equal(old_tree_id(".ovlfind-old-" ID), ID);
        assert_null(old_tree_id(".ovlfind-old-notes"));
        assert_null(old_tree_id(".ovlfind"));
        assert_null(old_tree_id(ID));
}

static void test_id(void **state) {
        assert_true(is_staging_id(ID));
        assert_true(is_staging_id("ffffffffffffffff"));
        assert_false(is_staging_id(""));
        assert_false(is_staging_id("0123456789abcde"));
        assert_false(is_staging_id("0123456789abcdef0"));
        assert_false(is_staging_id("0123456789abcdeg"));
        assert_false(is_staging_id("0123456789abcdeF"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_staging_name),
                cmocka_unit_test(test_old_tree_id),
                cmocka_unit_test(test_id),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
