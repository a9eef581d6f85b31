/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"
#include "utf8.h"

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
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *out = utf8_escape(cases[i].in);

                assert_string_equal(out, cases[i].out);
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

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_escape_line),
                cmocka_unit_test(test_escape),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
