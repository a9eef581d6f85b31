/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <string.h>

#include "ctl/json.h"
#include "ctl/record.h"
#include "ctl/table.h"
#include "ctl/target.h"

static void test_keys(void **state) {
        static const struct {
                const char *property, *key;
        } rows[] = {
                { "Id", "id" },
                { "MountPoint", "mount_point" },
                { "QueuedUSec", "queued_usec" },
                { "NOverlays", "n_overlays" },
                { "NKept", "n_kept" },
                { "EntriesDone", "entries_done" },
                { "DryRun", "dry_run" },
                { "LowerURL", "lower_url" },
                { "merge_children", "merge_children" },
                { "copied-up", "copied-up" },
                { "USec", "usec" },
                { "", "" },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_free_ char *key = record_key_from_property(rows[i].property);

                assert_string_equal(key, rows[i].key);
        }
}

static void test_fields(void **state) {
        _cleanup_record_ Record r = { 0 };

        record_set_string(&r, "a", "1");
        record_set_number(&r, "b", 2);
        record_set_string(&r, "c", "3");
        record_set_string(&r, "a", "one");
        assert_int_equal(r.n, 3);
        assert_int_equal(record_error(&r), 0);
        assert_string_equal(record_get_string(&r, "a"), "one");
        assert_null(record_get_string(&r, "b")); /* of another type */
        assert_int_equal(record_get_number(&r, "b", 7), 2);
        assert_int_equal(record_get_number(&r, "x", 7), 7);
        record_remove(&r, "b");
        record_remove(&r, "b");
        assert_int_equal(r.n, 2);
        assert_string_equal(record_get_string(&r, "c"), "3");
        assert_null(*record_get_strings(&r, "x"));
        assert_int_equal(record_get_list(&r, "x")->n, 0);
}

static void test_unknown(void **state) {
        _cleanup_record_ Record r = { 0 };

        record_set_number(&r, "started_usec", 0);
        record_set_number(&r, "queued_usec", 5);
        record_set_number(&r, "entries_done", 0);
        record_set_string(&r, "error_name", "");
        record_set_string(&r, "reason", "");
        record_set_number(&r, "job", 0);
        record_drop_unknown(&r);
        assert_int_equal(r.n, 3);
        assert_non_null(record_get(&r, "queued_usec"));
        assert_non_null(record_get(&r, "entries_done"));
        assert_non_null(record_get(&r, "reason"));
}

/* A record with a value of every type, some of them awkward. */
static void fill(Record *r) {
        Record counts = { 0 };
        RecordList one = { 0 };
        char **strings = calloc(3, sizeof(*strings));

        strings[0] = strdup("x\n");
        strings[1] = strdup("y");
        record_set_string(r, "s", "a\"b\\c\t\001ü\x7f");
        record_set_number(r, "n", UINT64_MAX);
        record_take(r, "i", (Value){ .type = VALUE_SIGNED, .number_signed = -3 });
        record_take(r, "b", (Value){ .type = VALUE_BOOLEAN, .boolean = true });
        record_take(r, "l", (Value){ .type = VALUE_STRINGS, .strings = strings });
        record_take(r, "e", (Value){ .type = VALUE_RECORDS });
        record_set_number(&counts, "finalized", 40);
        record_set_number(&counts, "merged", 0);
        (void) record_list_take(&one, &counts);
        record_take(r, "d", (Value){ .type = VALUE_RECORD, .list = one });
}

static void assert_json(const Record *r, JsonFormat format, const char *expected) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        assert_non_null(f);
        json_print(f, format, r);
        (void) fclose(f);
        assert_string_equal(text, expected);
}

static void test_json(void **state) {
        _cleanup_record_ Record r = { 0 }, small = { 0 }, empty = { 0 };

        fill(&r);
        assert_json(
                &r, JSON_SHORT,
                "{\"s\":\"a\\\"b\\\\c\\t\\u0001ü\\u007f\",\"n\":18446744073709551615,\"i\":-3,\"b\":true,"
                "\"l\":[\"x\\n\",\"y\"],\"e\":[],\"d\":{\"finalized\":40,\"merged\":0}}\n");
        record_set_number(&small, "n", 1);
        record_take(&small, "e", (Value){ .type = VALUE_RECORDS });
        assert_json(&small, JSON_PRETTY, "{\n        \"n\": 1,\n        \"e\": []\n}\n");
        assert_json(&empty, JSON_SHORT, "{}\n");
}

static void assert_cell(const Record *r, const char *key, const char *expected) {
        _cleanup_free_ char *text = value_to_text(record_get(r, key));

        assert_string_equal(text, expected);
}

static void test_cells(void **state) {
        _cleanup_record_ Record r = { 0 };

        fill(&r);
        assert_cell(&r, "s", "a\"b\\c\\x09\\x01ü\\x7f");
        assert_cell(&r, "n", "18446744073709551615");
        assert_cell(&r, "i", "-3");
        assert_cell(&r, "b", "yes");
        assert_cell(&r, "l", "x\\x0a, y");
        assert_cell(&r, "d", "40 finalized");
        assert_cell(&r, "x", "");
}

static void add_overlay(RecordList *l, const char *name, const char *mount_point) {
        Record r = { 0 };

        record_set_string(&r, "name", name);
        record_set_string(&r, "mount_point", mount_point);
        (void) record_list_take(l, &r);
}

static void test_targets(void **state) {
        static const struct {
                const char *argument, *name;
        } rows[] = {
                { "up", "up" },          { "/up", "up" },    { "/up/a", "up" }, { "/up/in", "inner" },
                { "/up/in/a", "inner" }, { "/upper", NULL }, { "/", NULL },     { "upper", NULL },
        };
        _cleanup_record_list_ RecordList l = { 0 };

        add_overlay(&l, "up", "/up");
        add_overlay(&l, "inner", "/up/in");
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                const Record *r = overlay_find(&l, rows[i].argument);

                if (rows[i].name)
                        assert_string_equal(record_get_string(r, "name"), rows[i].name);
                else
                        assert_null(r);
        }
        assert_true(argument_is_path("."));
        assert_true(argument_is_path(".."));
        assert_true(argument_is_path("a/"));
        assert_false(argument_is_path("a"));
        assert_false(argument_is_path("..."));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_keys), cmocka_unit_test(test_fields), cmocka_unit_test(test_unknown),
                cmocka_unit_test(test_json), cmocka_unit_test(test_cells),  cmocka_unit_test(test_targets),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
