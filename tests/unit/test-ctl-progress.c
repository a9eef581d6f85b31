/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <locale.h>
#include <string.h>

#include "ctl/progress.h"

#define SEC USEC_PER_SEC

static void test_text(void **state) {
        static const struct {
                const char *job_state;
                uint64_t done, total, elapsed_usec;
                const char *expected;
        } rows[] = {
                { "queued", 0, 0, 0, "L: queued" },
                { "running", 0, 0, 0, "L..." },
                { "running", 0, 5000, 0, "L: 0/5000 entries" },
                { "running", 120, 5000, SEC, "L: 120/5000 entries" }, /* too early for a rate */
                { "running", 2000, 5000, 2 * SEC, "L: 2000/5000 entries, 1000/s, 3 s left" },
                { "running", 2000, 0, 2 * SEC, "L: 2000 entries, 1000/s" },
                { "waiting", 5000, 5000, 4 * SEC, "L: 5000/5000 entries, 1250/s, waiting" },
                { "applying", 10, 10, SEC, "L: 10/10 entries, applying" },
        };

        (void) setlocale(LC_ALL, "C");
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_free_ char *s = progress_text(
                        "L", rows[i].job_state, rows[i].done, rows[i].total, rows[i].elapsed_usec);

                assert_string_equal(s, rows[i].expected);
        }
}

/* What progress_update() writes to stderr. */
static char *capture(void (*func)(Progress *p), bool is_interactive) {
        Progress p = { .label = "L", .is_interactive = is_interactive, .width = 20 };
        char *text = NULL;
        size_t size;
        FILE *saved = stderr, *f = open_memstream(&text, &size);

        assert_non_null(f);
        stderr = f;
        func(&p);
        stderr = saved;
        (void) fclose(f);
        return text;
}

static void many_updates(Progress *p) {
        for (uint64_t done = 0; done <= 100; done++)
                progress_update(p, "running", done, 100, SEC + done);
}

static void test_plain(void **state) {
        _cleanup_free_ char *text = capture(many_updates, false);
        size_t n = 0;

        for (const char *s = text; (s = strchr(s, '\n')); s++)
                n++;
        assert_int_equal(n, 9); /* 10 % to 90 %; the end is the summary's */
        assert_contains(text, "90% L: 90/100 entries\n");
        assert_null(strchr(text, '\r'));
}

static void test_interactive(void **state) {
        _cleanup_free_ char *text = capture(many_updates, true);

        /* All within one interval: drawn once, cut to the width. */
        assert_string_equal(text, "\rL: 0/100 entries\033[K");
}

static void silent(Progress *p) {
        p->label = NULL;
        many_updates(p);
        progress_clear(p);
}

static void test_quiet(void **state) {
        _cleanup_free_ char *text = capture(silent, true);

        assert_string_equal(text, "");
}

static void long_label(Progress *p) {
        p->label = "a label of many columns";
        progress_update(p, "running", 1, 10, SEC);
        progress_clear(p);
}

static void test_cut(void **state) {
        _cleanup_free_ char *text = capture(long_label, true);

        assert_string_equal(text, "\ra label of many col\033[K\r\033[K");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_text),        cmocka_unit_test(test_plain),
                cmocka_unit_test(test_interactive), cmocka_unit_test(test_quiet),
                cmocka_unit_test(test_cut),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
