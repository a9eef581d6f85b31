/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/context/pace.h"
#include "unit.h"

/* A server that answers `at_once` requests in the same time, and more of them one after the other. */
static uint64_t answer(unsigned n, unsigned at_once, uint64_t usec) {
        return n <= at_once ? usec : usec * n / at_once;
}

static void serve(Aimd *a, unsigned n_answers, unsigned at_once, uint64_t usec) {
        for (unsigned i = 0; i < n_answers; i++)
                (void) aimd_observe(a, PACE_ENTRY, answer(a->limit, at_once, usec));
}

static void test_rises_to_the_most(void **state) {
        Aimd a;

        aimd_init(&a, 2, 32, 2.0);
        serve(&a, 5000, 1000, 1000);
        assert_int_equal(a.limit, 32);
}

static void test_finds_what_a_server_can_do(void **state) {
        Aimd a;

        aimd_init(&a, 2, 64, 2.0);
        for (unsigned i = 0; i < 100; i++) {
                serve(&a, 50, 8, 1000);
                assert_in_range(a.limit, 1, 18);
        }
        assert_in_range(a.limit, 6, 18);
}

static void test_halves_and_recovers(void **state) {
        unsigned before;
        Aimd a;

        aimd_init(&a, 16, 16, 2.0);
        serve(&a, 500, 1000, 1000);
        before = a.limit;
        for (unsigned i = 0; i < before * 8; i++) /* others have come; the first answers share a window */
                (void) aimd_observe(&a, PACE_ENTRY, 5000);
        assert_in_range(a.limit, 1, before / 2);
        for (unsigned i = 0; i < 1000; i++)
                (void) aimd_observe(&a, PACE_ENTRY, 5000);
        assert_in_range(a.limit, 1, 2);
        serve(&a, 5000, 1000, 1000);
        assert_int_equal(a.limit, 16);
}

/* Kinds have each their own measure, and what is fast anyway says nothing. */
static void test_kinds(void **state) {
        Aimd a;

        aimd_init(&a, 1, 8, 2.0);
        for (unsigned i = 0; i < 1000; i++)
                (void) aimd_observe(&a, i % 2 ? PACE_ENTRY : PACE_DIRECTORY, i % 2 ? 1000 : 9000);
        assert_int_equal(a.limit, 8);
        aimd_init(&a, 1, 8, 2.0);
        for (unsigned i = 0; i < 1000; i++)
                (void) aimd_observe(&a, PACE_ENTRY, i % 3 * 90);
        assert_int_equal(a.limit, 8);
}

static void test_bucket(void **state) {
        Bucket b = { .rate = 100 }, any = { .rate = UINT64_MAX };
        uint64_t now = 5 * USEC_PER_SEC, begin = now;

        assert_int_equal(bucket_take(&any, 1000000, now), 0);
        for (unsigned i = 0; i < 250; i++)
                now += bucket_take(&b, 1, now);
        assert_int_equal(now - begin, 249 * USEC_PER_SEC / 100);
        now += 60 * USEC_PER_SEC; /* a pause is not made up for */
        begin = now;
        for (unsigned i = 0; i < 101; i++)
                now += bucket_take(&b, 1, now);
        assert_int_equal(now - begin, USEC_PER_SEC);
}

static void test_pressure(void **state) {
        static const char *const bad[] = { "", "full avg10=1.00 ", "some avg10=", "some avg10=x avg60=0",
                                           "some avg10=101.00 avg60=0.00" };
        double v;

        assert_int_equal(pressure_parse("some avg10=12.50 avg60=0.00 avg300=0.00 total=1\nfull x", &v), 0);
        assert_true(v > 12.49 && v < 12.51);
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_int_equal(pressure_parse(bad[i], &v), -EBADMSG);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_rises_to_the_most),
                cmocka_unit_test(test_finds_what_a_server_can_do),
                cmocka_unit_test(test_halves_and_recovers),
                cmocka_unit_test(test_kinds),
                cmocka_unit_test(test_bucket),
                cmocka_unit_test(test_pressure),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
