/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include "base/utf8.h"

static bool is_utf8(const char *s) {
        for (size_t n; *s; s += n) {
                n = utf8_sequence(s);
                if (n == 0)
                        return false;
        }
        return true;
}

static void test_escape(void **state) {
        static const struct {
                const char *in, *out;
        } cases[] = {
                { "", "" },
                { "/plain/a\\b", "/plain/a\\b" },
                { "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80",
                  "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80" },
                { "caf\xe9", "caf\\xe9" },
                { "\xe9x", "\\xe9x" },
                { "\xe2\x82", "\\xe2\\x82" },                   /* cut off */
                { "\x80\xff", "\\x80\\xff" },                   /* never begin anything */
                { "\xc0\xaf", "\\xc0\\xaf" },                   /* overlong */
                { "\xed\xa0\x80", "\\xed\\xa0\\x80" },          /* surrogate */
                { "\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80" }, /* too large */
                { "\xef\xbf\xbf", "\\xef\\xbf\\xbf" },          /* no character */
                /* A name that looks escaped. */
                { "\\xe9", "\\x5cxe9" },
                { "\\xE9 \\x5c", "\\x5cxE9 \\x5cx5c" },
                { "\\\xe9", "\\\\xe9" },
                { "\\x9\xe9", "\\x9\\xe9" },
                { "\\x00 \\xg0 \\n \\", "\\x00 \\xg0 \\n \\" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *out = utf8_escape(cases[i].in);

                assert_string_equal(out, cases[i].out);
                assert_true(is_utf8(out));
        }
}

/* Names made of what escapes are made of: no two are written alike, and all can be had back. */
static void test_unescape(void **state) {
        static const char bytes[] = "\\x5ce9\xff\xe9";
        uint64_t seed = 3;

        for (size_t i = 0; i < 50000; i++) {
                _cleanup_free_ char *out = NULL, *back = NULL;
                char in[16] = "";

                for (size_t k = 0; k + 1 < sizeof(in); k++)
                        in[k] = bytes[(random_next(&seed) >> 32) % (sizeof(bytes) - 1)];
                out = utf8_escape(in);
                assert_non_null(out);
                assert_true(is_utf8(out));
                back = utf8_unescape(out);
                assert_non_null(back);
                assert_string_equal(back, in);
        }
}

/* Whatever goes in: what comes out is UTF-8 without controls, and once is enough. */
static void test_escape_any(void **state) {
        uint64_t seed = 3;

        for (size_t i = 0; i < 20000; i++) {
                _cleanup_free_ char *out = NULL, *twice = NULL;
                char in[12] = "";

                for (size_t k = 0; k + 1 < sizeof(in); k++)
                        in[k] = (char) (random_next(&seed) >> 32);
                out = utf8_escape_line(in);
                assert_non_null(out);
                assert_true(is_utf8(out));
                for (const char *p = out; *p; p++)
                        assert_true((unsigned char) *p >= 0x20 && *p != 0x7f);
                twice = utf8_escape_line(out);
                assert_non_null(twice);
                assert_string_equal(out, twice);
        }
}

static void test_escape_line(void **state) {
        static const struct {
                const char *in, *out;
        } cases[] = {
                { "gr\xc3\xbc\xc3\x9f, \"plain\" \\ text", "gr\xc3\xbc\xc3\x9f, \"plain\" \\ text" },
                { "a\nb\r\t\x1b[31m\x7f", "a\\x0ab\\x0d\\x09\\x1b[31m\\x7f" },
                { "\xc2\x9b"
                  "1m\xc2\xa0",
                  "\\xc2\\x9b1m\xc2\xa0" },
                { "\xe2\x80\xae"
                  "exe\xe2\x81\xa9",
                  "\\xe2\\x80\\xae"
                  "exe\\xe2\\x81\\xa9" },
                { "\xe2\x80\xa9\xe2\x80\xa6\xff", "\\xe2\\x80\\xa9\xe2\x80\xa6\\xff" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *out = utf8_escape_line(cases[i].in);

                assert_string_equal(out, cases[i].out);
        }
}

static void test_sequence(void **state) {
        assert_int_equal(utf8_sequence(""), 1);
        assert_int_equal(utf8_sequence("€x"), 3);
        assert_int_equal(utf8_sequence("\xe2\x82"), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_escape_line), cmocka_unit_test(test_escape),
                cmocka_unit_test(test_escape_any),  cmocka_unit_test(test_unescape),
                cmocka_unit_test(test_sequence),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
