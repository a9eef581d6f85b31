/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <locale.h>
#include <string.h>
#include <time.h>

#include "ctl/format.h"

#define SEC USEC_PER_SEC

static void assert_text(char *text, const char *expected) {
        assert_non_null(text);
        assert_string_equal(text, expected);
        free(text);
}

static void test_wrap(void **state) {
        assert_text(format_wrap("", 5), "");
        assert_text(format_wrap("one two three", 80), "one two three");
        assert_text(format_wrap("one two three", 7), "one two\nthree");
        assert_text(format_wrap("one two three", 6), "one\ntwo\nthree");
        assert_text(format_wrap("unbreakable word", 4), "unbreakable\nword");
        assert_text(format_wrap("äö üß x", 5), "äö üß\nx");
        assert_text(format_wrap("地図 x y", 6), "地図 x\ny");
}

static void test_width(void **state) {
        assert_int_equal(format_width("ä地e\u0301"), 4);
        assert_int_equal(format_fitting("地図", 3), strlen("地"));
        assert_int_equal(format_fitting("e\u0301x", 1), strlen("e\u0301"));
        assert_int_equal(format_fitting("", 3), 0);
}

static void test_duration(void **state) {
        static const struct {
                uint64_t usec;
                const char *out;
        } rows[] = {
                { 0, "0.0 ms" },
                { 1500, "1.5 ms" },
                { 310 * USEC_PER_MSEC, "0.31 s" },
                { 12340 * USEC_PER_MSEC, "12.3 s" },
                { 60 * SEC, "1 min" },
                { 123 * SEC, "2 min 3 s" },
                { 3720 * SEC, "1 h 2 min" },
                { (3 * 24 + 4) * 3600 * SEC, "3 d 4 h" },
                { USEC_INFINITY, "unknown" },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                assert_text(format_duration(rows[i].usec), rows[i].out);
}

static void test_seconds(void **state) {
        assert_text(format_seconds(0), "0 s");
        assert_text(format_seconds(59999999), "59 s");
        assert_text(format_seconds(60 * SEC), "1 min");
}

static void test_rate(void **state) {
        assert_null(format_rate(5, 0));
        assert_text(format_rate(7, 2 * SEC), "3.5/s");
        assert_text(format_rate(1624, 2 * SEC), "812/s");
        assert_int_equal(format_time_left(25, 100, 10 * SEC), 30 * SEC);
        assert_int_equal(format_time_left(100, 100, 10 * SEC), 0);
        assert_true(format_time_left(0, 100, SEC) == USEC_INFINITY);
        assert_true(format_time_left(5, 3, SEC) == USEC_INFINITY);
        assert_true(format_time_left(1, UINT64_MAX, UINT64_MAX) == USEC_INFINITY);
}

static void test_numbers(void **state) {
        assert_text(format_count(999999), "999999");
        assert_text(format_count(1250000), "1.2 M");
        assert_text(format_quantity(1, "entry", "entries"), "1 entry");
        assert_text(format_quantity(0, "entry", "entries"), "0 entries");
        assert_text(format_bytes(1023), "1023B");
        assert_text(format_bytes(4096), "4.0K");
        assert_text(format_bytes(UINT64_C(1) << 20), "1.0M");
        assert_text(format_bytes((UINT64_C(1) << 20) - 1), "1.0M");
        assert_text(format_bytes(UINT64_MAX), "16.0E");
}

static void test_times(void **state) {
        (void) setenv("TZ", "UTC", 1);
        tzset();
        assert_text(format_timestamp(UINT64_C(1700000000) * SEC), "2023-11-14 22:13:20");
        assert_text(format_ago(100 * SEC, 100 * SEC), "just now");
        assert_text(format_ago(200 * SEC, 100 * SEC), "just now");
        assert_text(format_ago(100 * SEC, 159 * SEC), "59 s ago");
        assert_text(format_ago(100 * SEC, 281 * SEC), "3 min 1 s ago");
}

static void test_parse(void **state) {
        static const char *const bad[] = { "", " 1", "-1", "+1", "1 ", "1x", "0x1", "KM", "1KK" };
        uint64_t size;
        uint32_t n;

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                assert_int_equal(parse_u32(bad[i], &n), -EINVAL);
                assert_int_equal(parse_size(bad[i], &size), -EINVAL);
        }
        assert_return_code(parse_u32("4294967295", &n), 0);
        assert_true(n == UINT32_MAX);
        assert_int_equal(parse_u32("4294967296", &n), -ERANGE);
        assert_return_code(parse_size("64K", &size), 0);
        assert_int_equal(size, 64 * 1024);
        assert_return_code(parse_size("1T", &size), 0);
        assert_true(size == UINT64_C(1) << 40);
        assert_int_equal(parse_size("99999999T", &size), -ERANGE);
        assert_int_equal(parse_size("99999999999999999999", &size), -ERANGE);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_wrap),     cmocka_unit_test(test_width),
                cmocka_unit_test(test_duration), cmocka_unit_test(test_rate),
                cmocka_unit_test(test_seconds),  cmocka_unit_test(test_numbers),
                cmocka_unit_test(test_times),    cmocka_unit_test(test_parse),
        };

        (void) setlocale(LC_CTYPE, "C.UTF-8");
        return cmocka_run_group_tests(tests, NULL, NULL);
}
