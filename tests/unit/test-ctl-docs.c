/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/docs.h"

#include "base/macro.h"
#include "unit.h"

static void assert_section(const char *state, const char *reason, const char *anchor) {
        const char *found = docs_find_reason(state, reason);

        if (!anchor)
                assert_null(found);
        else
                assert_string_equal(found, anchor);
}

static void test_reason(void **unused) {
        assert_section(
                "excluded", "'a.so' has several hard links in the lower layer (HardLinks=skip)",
                "hard-links");
        assert_section(
                "excluded", "it is immutable or append-only; take that away first (chattr -i -a)",
                "immutable-or-append-only");
        assert_section(
                "pending", "2 processes stand there and could change names: 1 (a, cwd), 2 (b, cwd)",
                "somebody-stands-there");
        assert_section(
                "stale", "the lower directory '/a' has 1 new, 0 removed, 0 changed entries, e.g. 'b'",
                "entries-changed");
}

/* Names are anything, among it what patterns have and what other reasons say. */
static void test_names(void **unused) {
        assert_section(
                "excluded", "'[*]?' has several hard links in the lower layer (HardLinks=skip)",
                "hard-links");
        assert_section(
                "pending",
                "it holds 'it is not there any more', which cannot be exchanged: Exclude= says so",
                "a-directory-below");
        assert_section(
                "broken", "'\\xe4' needs a lower layer and has no absolute redirect to it", "no-redirect");
}

static void test_errors(void **unused) {
        assert_section("excluded", "cannot link '/ovl/a/b': Permission denied", "another-error");
        assert_section(
                "excluded",
                "cannot link '/ovl/a/b': Too many links; the upper layer's file system allows no more links",
                "too-many-links");
}

static void test_state(void **unused) {
        assert_section("pending", "what a later version says", "pending");
        assert_section("gone", NULL, "gone");
        assert_section("merged", "Exclude= says so", NULL);
        assert_section("what a later version says", "Exclude= says so", NULL);
        assert_section(NULL, NULL, NULL);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_reason),
                cmocka_unit_test(test_names),
                cmocka_unit_test(test_errors),
                cmocka_unit_test(test_state),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
