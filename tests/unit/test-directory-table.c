/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "overlays/directory-table.h"
#include "unit.h"

static int setup(void **state) {
        *state = directory_table_new();
        assert_non_null(*state);
        return 0;
}

static int teardown(void **state) {
        (void) directory_table_free(*state);
        return 0;
}

static int put(DirectoryTable *t, const char *path, DirectoryState s) {
        DirectoryInfo i = { .path = path, .state = s, .reason = "", .scheme = "", .lower_path = "" };

        return directory_table_update(t, &i);
}

#define HOUR (3600 * UINT64_C(1000000))

static int count_one(const DirectoryInfo *info, void *userdata) {
        ++*(size_t *) userdata;
        return 0;
}

static size_t table_size(const DirectoryTable *t) {
        size_t n = 0;

        assert_return_code(directory_table_foreach(t, "", count_one, &n), 0);
        return n;
}

static void test_tries(void **state) {
        DirectoryInfo i = {
                .path = "d", .state = DIRECTORY_STALE, .reason = "one", .scheme = "", .lower_path = ""
        };
        uint64_t now = 5;

        assert_true(directory_table_try(*state, "d", now)); /* unknown: nothing is remembered */
        for (uint64_t pause = 1; pause < 100; pause *= 2) {
                assert_int_equal(directory_table_update(*state, &i), pause == 1);
                assert_true(directory_table_try(*state, "d", now));
                now += (pause < 24 ? pause : 24) * HOUR;
                assert_false(directory_table_try(*state, "d", now - 1));
        }
        i.reason = "another";
        assert_int_equal(directory_table_update(*state, &i), 0);
        assert_true(directory_table_try(*state, "d", now - 1));
        i.state = DIRECTORY_GONE;
        assert_int_equal(directory_table_update(*state, &i), 1);
        assert_true(directory_table_try(*state, "d", now - 1));
        assert_false(directory_table_try(*state, "d", now - 1));
}

static void test_update_and_get(void **state) {
        DirectoryInfo in = {
                .path = "a/b",
                .state = DIRECTORY_FINALIZED,
                .reason = "because",
                .scheme = "redirect",
                .lower_path = "/c/d",
                .entries = 5,
                .merge_children = 2,
                .finalized_usec = 99,
        };
        DirectoryInfo out;

        assert_int_equal(directory_table_get(*state, "a/b", &out), 0);
        assert_int_equal(directory_table_update(*state, &in), 1);
        assert_int_equal(directory_table_get(*state, "a/b", &out), 1);
        assert_string_equal(out.path, "a/b");
        assert_string_equal(out.reason, "because");
        assert_string_equal(out.scheme, "redirect");
        assert_string_equal(out.lower_path, "/c/d");
        assert_int_equal(out.state, DIRECTORY_FINALIZED);
        assert_int_equal(out.entries + out.merge_children + out.finalized_usec, 106);
        in.lower_path = "/a/b";
        assert_int_equal(directory_table_update(*state, &in), 0);
        assert_int_equal(directory_table_get(*state, "a/b", &out), 1);
        assert_string_equal(out.lower_path, "/a/b");
        in.lower_path = "/";
        assert_int_equal(directory_table_update(*state, &in), 0);
        assert_int_equal(directory_table_get(*state, "a/b", &out), 1);
        assert_string_equal(out.lower_path, "/");
        in.lower_path = "";
        assert_int_equal(directory_table_update(*state, &in), 0);
        assert_int_equal(directory_table_get(*state, "a/b", &out), 1);
        assert_string_equal(out.lower_path, "");
        assert_int_equal(table_size(*state), 1);
}

static void test_counts_and_changes(void **state) {
        assert_int_equal(put(*state, "a", DIRECTORY_MERGED), 0); /* what is not there is merged */
        assert_int_equal(put(*state, "a", DIRECTORY_PENDING), 1);
        assert_int_equal(put(*state, "a", DIRECTORY_PENDING), 0);
        assert_int_equal(put(*state, "a", DIRECTORY_FINALIZED), 1);
        assert_int_equal(put(*state, "", DIRECTORY_EXCLUDED), 1);
        assert_int_equal(directory_table_count(*state, DIRECTORY_PENDING), 0);
        assert_int_equal(directory_table_count(*state, DIRECTORY_FINALIZED), 1);
        assert_int_equal(put(*state, "a", DIRECTORY_MERGED), 1);
        assert_int_equal(directory_table_count(*state, DIRECTORY_FINALIZED), 0);
        assert_int_equal(table_size(*state), 1);
        directory_table_clear(*state);
        assert_int_equal(table_size(*state), 0);
        assert_int_equal(directory_table_count(*state, DIRECTORY_EXCLUDED), 0);
}

typedef struct Seen {
        char text[256];
        int stop_after;
} Seen;

static int see(const DirectoryInfo *info, void *userdata) {
        Seen *s = userdata;

        (void) strncat(s->text, info->path, sizeof(s->text) - strlen(s->text) - 1);
        (void) strncat(s->text, " ", sizeof(s->text) - strlen(s->text) - 1);
        return s->stop_after > 0 && --s->stop_after == 0 ? -ECANCELED : 0;
}

static void see_dropped(const DirectoryInfo *info, void *userdata) {
        (void) see(info, userdata);
}

static void test_foreach(void **state) {
        static const char *const paths[] = { "b", "a/c", "ab", "a", "", "a/b" };
        Seen all = { 0 }, below = { 0 }, some = { .stop_after = 2 };

        for (size_t i = 0; i < ELEMENTSOF(paths); i++)
                (void) put(*state, paths[i], DIRECTORY_FINALIZED);
        assert_int_equal(directory_table_foreach(*state, "", see, &all), 0);
        assert_string_equal(all.text, " a a/b a/c ab b ");
        assert_int_equal(directory_table_foreach(*state, "a", see, &below), 0);
        assert_string_equal(below.text, "a a/b a/c ");
        assert_int_equal(directory_table_foreach(*state, "", see, &some), -ECANCELED);
}

static void test_survey(void **state) {
        Seen dropped = { 0 };

        (void) put(*state, "gone", DIRECTORY_FINALIZED);
        (void) put(*state, "left-out", DIRECTORY_EXCLUDED);
        (void) put(*state, "stays", DIRECTORY_FINALIZED);
        directory_table_survey_begin(*state);
        assert_int_equal(put(*state, "stays", DIRECTORY_FINALIZED), 0);
        assert_int_equal(put(*state, "new", DIRECTORY_PENDING), 1);
        directory_table_survey_end(*state, see_dropped, &dropped);
        assert_string_equal(dropped.text, "gone ");
        assert_int_equal(table_size(*state), 3);
}

/* The memory of a large tree: a budget, so that nobody makes an entry twice as large without noticing. */
static void test_many(void **state) {
        static char path[64];

        for (int i = 0; i < 50000; i++) {
                (void) snprintf(path, sizeof(path), "product/version-%i/lib", i);
                assert_int_equal(put(*state, path, DIRECTORY_FINALIZED), 1);
        }
        assert_int_equal(directory_table_count(*state, DIRECTORY_FINALIZED), 50000);
        assert_int_equal(put(*state, path, DIRECTORY_FINALIZED), 0);
}

static void test_too_long(void **state) {
        _cleanup_free_ char *path = malloc(70000);

        assert_non_null(path);
        memset(path, 'x', 69999);
        path[69999] = '\0';
        assert_int_equal(put(*state, path, DIRECTORY_FINALIZED), -ENOMEM);
        assert_int_equal(table_size(*state), 0);
}

#define table_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                table_test(test_update_and_get), table_test(test_counts_and_changes),
                table_test(test_foreach),        table_test(test_survey),
                table_test(test_many),           table_test(test_too_long),
                table_test(test_tries),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
