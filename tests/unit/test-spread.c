/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "service/spread.h"
#include "unit.h"

#define HOUR (3600 * USEC_PER_SEC)
#define N_HOSTS 1000
#define N_PARTS 10

static void make_host(unsigned n, uint8_t ret[SPREAD_MACHINE_SIZE]) {
        memset(ret, 0, SPREAD_MACHINE_SIZE);
        memcpy(ret, &n, sizeof(n));
}

static void test_bounds(void **state) {
        uint8_t host[SPREAD_MACHINE_SIZE];
        bool reached[2] = { false };

        for (unsigned i = 0; i < N_HOSTS; i++) {
                make_host(i, host);
                assert_int_equal(spread_delay(host, "soft", "a", 0), 0);
                assert_true(spread_delay(host, "soft", "a", 1) <= 1);
                reached[spread_delay(host, "soft", "a", 1)] = true;
                assert_true(spread_delay(host, "soft", "a", HOUR) <= HOUR);
                assert_true(spread_delay(host, "soft", "a", UINT64_MAX) <= SPREAD_MAX_USEC);
        }
        assert_true(reached[0] && reached[1]); /* the longest one is possible, too */
}

/* The same again, whoever asks and when; another one for another host, overlay or directory. */
static void test_stable(void **state) {
        uint8_t host[SPREAD_MACHINE_SIZE], other[SPREAD_MACHINE_SIZE];
        uint64_t delay;

        make_host(1, host);
        make_host(2, other);
        delay = spread_delay(host, "soft", "geo/3.2", HOUR);
        assert_true(delay == spread_delay(host, "soft", "geo/3.2", HOUR));
        assert_true(delay != spread_delay(other, "soft", "geo/3.2", HOUR));
        assert_true(delay != spread_delay(host, "hard", "geo/3.2", HOUR));
        assert_true(delay != spread_delay(host, "soft", "geo/3.3", HOUR));
        /* A longer time stretches it. */
        assert_true(spread_delay(host, "soft", "geo/3.2", 2 * HOUR) / 2 == delay);
}

/* Of a thousand hosts about a hundred begin in each tenth of the time: 100 ± 4 standard deviations. */
static void test_even(void **state) {
        static const char *const paths[] = { "", "a", "b", "geo/3.2/lib" };

        for (size_t p = 0; p < ELEMENTSOF(paths); p++) {
                unsigned parts[N_PARTS] = { 0 };

                for (unsigned i = 0; i < N_HOSTS; i++) {
                        uint8_t host[SPREAD_MACHINE_SIZE];

                        make_host(i, host);
                        parts[spread_delay(host, "soft", paths[p], HOUR - 1) * N_PARTS / HOUR]++;
                }
                for (size_t k = 0; k < N_PARTS; k++)
                        assert_in_range(parts[k], 62, 138);
        }
}

static void test_machine(void **state) {
        uint8_t a[SPREAD_MACHINE_SIZE], zero[SPREAD_MACHINE_SIZE] = { 0 };

        spread_machine(a);
        assert_memory_not_equal(a, zero, SPREAD_MACHINE_SIZE);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_bounds),
                cmocka_unit_test(test_stable),
                cmocka_unit_test(test_even),
                cmocka_unit_test(test_machine),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
