/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <string.h>

#include "ctl/options.h"
#include "ctl/verbs.h"

#define ARGUMENTS_MAX 8

/* Parses a command line given as its words; argv is copied, for getopt_long() sorts it. */
static int parse(const char *const *words, Options *ret, char **reterr, const char **ret_first) {
        char *argv[ARGUMENTS_MAX + 1] = { (char *) "ovlfinctl" };
        int argc = 1, r;

        while (words[argc - 1]) {
                argv[argc] = (char *) words[argc - 1];
                argc++;
        }
        r = options_parse(argc, argv, ret, reterr);
        if (r >= 0 && ret_first)
                *ret_first = argv[r];
        return r < 0 ? r : argc - r;
}

#define WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void test_none(void **state) {
        _cleanup_free_ char *e = NULL;
        Options o;

        assert_int_equal(parse(WORDS("list"), &o, &e, NULL), 1);
        assert_int_equal(o.given, 0);
        assert_int_equal(o.json, JSON_OFF);
        assert_true(options_want_state(&o, "merged"));
        options_done(&o);
}

static void test_all(void **state) {
        _cleanup_free_ char *e = NULL;
        const char *first = NULL;
        Options o;

        /* Options count wherever they stand, up to "--". */
        assert_int_equal(
                parse(WORDS("finalize", "-q", "--json=short", "/a", "--depth=3", "--", "--force"), &o, &e,
                      &first),
                3);
        assert_string_equal(first, "finalize");
        assert_int_equal(o.given, OPTION_QUIET | OPTION_JSON | OPTION_DEPTH);
        assert_int_equal(o.json, JSON_SHORT);
        assert_int_equal(o.depth, 3);
        options_done(&o);
        assert_int_equal(
                parse(WORDS("--address=unix:path=/x", "--method=mark", "--json=pretty"), &o, &e, NULL), 0);
        assert_string_equal(o.address, "unix:path=/x");
        assert_string_equal(o.method, "mark");
        assert_int_equal(o.json, JSON_PRETTY);
        options_done(&o);
}

static void test_data(void **state) {
        _cleanup_free_ char *e = NULL;
        Options o;

        assert_int_equal(parse(WORDS("finalize", "--data", "64K"), &o, &e, NULL), 2); /* 64K is a path */
        assert_true(options_have(&o, OPTION_DATA));
        assert_int_equal(o.data_bytes, OPTION_DATA_DEFAULT);
        options_done(&o);
        assert_int_equal(parse(WORDS("finalize", "--data=64K"), &o, &e, NULL), 1);
        assert_int_equal(o.data_bytes, 64 * 1024);
        options_done(&o);
        assert_int_equal(parse(WORDS("finalize", "--data=all"), &o, &e, NULL), 1);
        assert_true(o.data_bytes == UINT64_MAX);
        options_done(&o);
}

static void test_states(void **state) {
        _cleanup_free_ char *e = NULL;
        Options o;

        assert_int_equal(parse(WORDS("--state=pending,stale", "--state=finalized"), &o, &e, NULL), 0);
        assert_true(options_want_state(&o, "pending"));
        assert_true(options_want_state(&o, "stale"));
        assert_true(options_want_state(&o, "finalized"));
        assert_false(options_want_state(&o, "final"));
        assert_false(options_want_state(&o, "merged"));
        assert_false(options_want_state(&o, ""));
        options_done(&o);
}

static void test_refused(void **state) {
        static const struct {
                const char *word, *complaint;
        } rows[] = {
                { "--frob", "--frob" },
                { "-x", "'-x'" },
                { "-qx", "'-x'" },
                { "--json", "--json" },
                { "--json=", "''" },
                { "--json=yaml", "yaml" },
                { "--method=magic", "magic" },
                { "--depth=two", "two" },
                { "--data=big", "big" },
                { "--quiet=yes", "--quiet" },
                { "--depth=4294967296", "4294967296" },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_free_ char *e = NULL;
                Options o;

                assert_int_equal(parse(WORDS("list", rows[i].word), &o, &e, NULL), -EINVAL);
                assert_contains(e, rows[i].complaint);
                assert_null(strchr(e, '\n'));
        }
}

static int validate(const char *verb, int argc, unsigned given, char **reterr) {
        char *argv[ARGUMENTS_MAX + 1] = { NULL };
        Options o = { .given = given };

        for (int i = 0; i < argc; i++)
                argv[i] = (char *) "x";
        return verb_validate(verb_find(verb), argc, argv, &o, reterr);
}

static void test_verbs(void **state) {
        static const struct {
                const char *verb;
                int argc;
                unsigned given;
                int expected;
        } rows[] = {
                { "status", 0, 0, 0 },
                { "status", 5, OPTION_JSON, 0 },
                { "list", 1, 0, -EINVAL },
                { "finalize", 0, 0, -EINVAL },
                { "finalize", 3, OPTION_DRY_RUN | OPTION_NO_BLOCK | OPTION_DATA, 0 },
                { "finalize", 1, OPTION_RESET, -EINVAL },
                { "unfinalize", 1, OPTION_RESET | OPTION_FORCE, 0 },
                { "unfinalize", 1, OPTION_DATA, -EINVAL },
                { "is-finalized", 2, 0, -EINVAL },
                { "directories", 1, OPTION_STATE, 0 },
                { "list", 0, OPTION_STATE, -EINVAL },
                { "list", 0, OPTION_HOST, 0 },
                { "list", 0, OPTION_HOST | OPTION_MACHINE, -EINVAL },
                { "verify", 1, OPTION_OFFLINE | OPTION_WORK, 0 },
                { "verify", 1, OPTION_OFFLINE | OPTION_MACHINE, -EINVAL },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_free_ char *e = NULL;

                assert_int_equal(validate(rows[i].verb, rows[i].argc, rows[i].given, &e), rows[i].expected);
                assert_true((e != NULL) == (rows[i].expected < 0));
        }
        assert_null(verb_find("final"));
}

static void test_empty_argument(void **state) {
        char *argv[] = { (char *) "", NULL };
        _cleanup_free_ char *e = NULL;
        Options o = { 0 };

        assert_int_equal(verb_validate(verb_find("pause"), 1, argv, &o, &e), -EINVAL);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_none),           cmocka_unit_test(test_all),
                cmocka_unit_test(test_data),           cmocka_unit_test(test_states),
                cmocka_unit_test(test_refused),        cmocka_unit_test(test_verbs),
                cmocka_unit_test(test_empty_argument),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
