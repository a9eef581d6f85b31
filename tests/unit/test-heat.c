/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <math.h>
#include <string.h>

#include "overlays/heat.h"
#include "unit.h"

#define WINDOW (600 * USEC_PER_SEC)
#define START (UINT64_C(1700000000) * USEC_PER_SEC)

static void assert_near(double a, double b) {
        if (fabs(a - b) > 0.02 * fabs(b) + 1e-9)
                fail_msg("%g is not near %g", a, b);
}

static double heat_of(const HeatTable *t, const char *path, uint64_t now) {
        HeatEntry e;

        return heat_table_get(t, path, now, WINDOW, &e) ? e.heat : -1;
}

static void test_decay(void **state) {
        assert_near(heat_decay(20, 0, WINDOW), 20);
        assert_near(heat_decay(20, (uint64_t) (WINDOW * M_LN2), WINDOW), 10);
        assert_near(heat_decay(20, WINDOW, WINDOW), 20 / M_E);
        assert_true(heat_decay(20, 1, 0) == 0);
        assert_true(heat_decay(20, UINT64_MAX, USEC_INFINITY) == 20);
}

static void test_threshold(void **state) {
        assert_true(heat_is_hot(20, 20));
        assert_true(heat_is_hot(19.6, 20)); /* twenty within seconds, a little later */
        assert_false(heat_is_hot(19, 20));
        assert_true(heat_is_hot(1, 0));
        assert_false(heat_is_hot(0, 0));
}

/* N opens per window, for long, are a heat of N, whatever they are told in. */
static void test_steady(void **state) {
        static const unsigned batches[] = { 1, 7, 30 };

        for (size_t b = 0; b < ELEMENTSOF(batches); b++) {
                _cleanup_(heat_table_freep) HeatTable *t = heat_table_new();
                uint64_t now = START;

                for (unsigned i = 0; i < 20 * 300 / batches[b]; i++) {
                        assert_int_equal(
                                heat_table_add(
                                        t, "a", &(Use){ .opens = batches[b], .counted = batches[b] }, now,
                                        WINDOW),
                                0);
                        now += batches[b] * WINDOW / 300;
                }
                assert_true(fabs(heat_of(t, "a", now) - 300) < 20);
        }
}

/* The order of paths, and a clock that goes back, change nothing. */
static void test_independence(void **state) {
        _cleanup_(heat_table_freep) HeatTable *t = heat_table_new();

        assert_int_equal(heat_table_add(t, "a", &(Use){ .opens = 10, .counted = 10 }, START, WINDOW), 0);
        assert_int_equal(heat_table_add(t, "b", &(Use){ .opens = 5, .counted = 5 }, START, WINDOW), 0);
        assert_near(heat_of(t, "a", START - USEC_PER_SEC), 10);
        assert_int_equal(
                heat_table_add(t, "a", &(Use){ .opens = 10, .counted = 10 }, START - WINDOW, WINDOW), 0);
        assert_near(heat_of(t, "a", START - WINDOW), 20);
        assert_near(heat_of(t, "b", START + WINDOW), 5 / M_E);
        assert_true(heat_of(t, "c", START) < 0);
}

static int append(const HeatEntry *e, void *userdata) {
        char *text = userdata;

        (void) sprintf(text + strlen(text), "%s ", e->path);
        return 0;
}

static void test_order_and_trim(void **state) {
        _cleanup_(heat_table_freep) HeatTable *t = heat_table_new();
        char text[100] = "";

        assert_int_equal(heat_table_add(t, "cold", &(Use){ .opens = 1, .counted = 1 }, START, WINDOW), 0);
        assert_int_equal(heat_table_add(t, "hot", &(Use){ .opens = 100, .counted = 100 }, START, WINDOW), 0);
        assert_int_equal(heat_table_add(t, "warm", &(Use){ .opens = 10, .counted = 10 }, START, WINDOW), 0);
        assert_int_equal(heat_table_foreach(t, 2, START, WINDOW, append, text), 0);
        assert_string_equal(text, "hot warm ");
        heat_table_trim(t, 2, START, WINDOW);
        assert_int_equal(heat_table_size(t), 2);
        heat_table_trim(t, 2, START + 6 * WINDOW, WINDOW);
        text[0] = '\0';
        assert_int_equal(heat_table_foreach(t, 0, START, WINDOW, append, text), 0);
        assert_string_equal(text, "hot ");
}

static void test_failures(void **state) {
        _cleanup_(heat_table_freep) HeatTable *t = heat_table_new();
        HeatEntry e;

        assert_int_equal(heat_table_add(t, "a", &(Use){ .opens = 1, .counted = 1 }, START, WINDOW), 0);
        heat_table_note_failure(t, "a", START + 20 * WINDOW, /* is_refused= */ false);
        heat_table_note_failure(t, "a", START + 20 * WINDOW, /* is_refused= */ false);
        heat_table_note_failure(t, "nobody", START, /* is_refused= */ false);
        heat_table_trim(t, 10, START + 10 * WINDOW, WINDOW); /* a pause is remembered to its end */
        assert_int_equal(heat_table_get(t, "a", START, WINDOW, &e), 1);
        assert_int_equal(e.n_failures, 2);
        heat_table_forgive(t, "a");
        assert_int_equal(heat_table_get(t, "a", START, WINDOW, &e), 1);
        assert_int_equal(e.n_failures, 0);
        assert_int_equal(e.not_before_usec, 0);
}

static void test_misses(void **state) {
        _cleanup_(heat_table_freep) HeatTable *t = heat_table_new();
        HeatEntry e;

        heat_table_set_worth(t, 20, 10);
        assert_int_equal(
                heat_table_add(
                        t, "a", &(Use){ .opens = 12, .counted = 10, .misses = 5, .saved = 50 }, START,
                        WINDOW),
                0);
        assert_int_equal(heat_table_get(t, "a", START, WINDOW, &e), 1);
        assert_near(e.opens, 10);
        assert_near(e.misses, 5);
        assert_near(e.heat, 20); /* half of either */
        assert_true(heat_is_hot(e.heat, 20));
        assert_near(e.open_rate, 12 / 5.);
        assert_near(e.miss_rate, 1);
        assert_near(e.save_rate, 10);
        assert_int_equal(heat_table_get(t, "a", START + WINDOW, WINDOW, &e), 1);
        assert_near(e.misses, 5 / M_E);

        assert_int_equal(heat_table_add(t, "b", &(Use){ .searches = 1 }, START, WINDOW), 0);
        assert_int_equal(heat_table_get(t, "b", START, WINDOW, &e), 1);
        assert_near(e.misses, HEAT_SEARCH_MISSES);
        assert_true(e.miss_rate == 0); /* it is not known how many there were */
        heat_table_set_worth(t, 0, 0);
        assert_int_equal(heat_table_get(t, "b", START, WINDOW, &e), 1);
        assert_near(e.heat, HEAT_SEARCH_MISSES);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_decay),          cmocka_unit_test(test_threshold),
                cmocka_unit_test(test_steady),         cmocka_unit_test(test_independence),
                cmocka_unit_test(test_order_and_trim), cmocka_unit_test(test_failures),
                cmocka_unit_test(test_misses),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
