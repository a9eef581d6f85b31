/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include "base/clock.h"

/* Twice as long each time, and never longer than the longest, however large the numbers are. */
static void test_pauses(void **state) {
        const uint64_t expected[] = { 5, 10, 20, 40, 60, 60, 60 };
        uint64_t pause = 5;

        for (unsigned i = 0; i < ELEMENTSOF(expected); i++) {
                assert_int_equal(pause, expected[i]);
                assert_int_equal(pause_after(i, 5, 60), expected[i]);
                pause = pause_next(pause, 60);
        }
        assert_int_equal(pause_after(UINT32_MAX, 5, 60), 60);
        assert_int_equal(pause_after(3, 60, 60), 60);
        assert_true(pause_next(UINT64_MAX / 2 + 1, UINT64_MAX) == UINT64_MAX);
}

/* Whole seconds and what is left of them: the kernel refuses more nanoseconds than a second has. */
static void test_deadline(void **state) {
        static const uint64_t usecs[] = { 0, 1, 999999, 1000000, 1500000, 3600 * USEC_PER_SEC + 999999 };

        for (size_t i = 0; i < ELEMENTSOF(usecs); i++) {
                uint64_t before = now_monotonic_usec(), at_usec;
                struct timespec t = clock_deadline(usecs[i]);

                assert_in_range(t.tv_nsec, 0, 999999999);
                at_usec = (uint64_t) t.tv_sec * USEC_PER_SEC + (uint64_t) t.tv_nsec / NSEC_PER_USEC;
                assert_true(at_usec >= before + usecs[i]);
                assert_true(at_usec <= now_monotonic_usec() + usecs[i]);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_pauses),
                cmocka_unit_test(test_deadline),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
