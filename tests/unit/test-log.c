/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/log.h"

#include "unit.h"

static unsigned speak(LogLimit *l, uint64_t now_usec, unsigned n, unsigned *ret_suppressed) {
        unsigned n_spoken = 0, n_suppressed;

        *ret_suppressed = 0;
        for (unsigned i = 0; i < n; i++) {
                n_spoken += log_limit_check(l, now_usec, &n_suppressed);
                *ret_suppressed += n_suppressed;
        }
        return n_spoken;
}

static void test_limit(void **state) {
        uint64_t now = 1;
        LogLimit l = { 0 };
        unsigned n;

        assert_int_equal(speak(&l, now, LOG_BURST + 7, &n), LOG_BURST);
        assert_int_equal(n, 0);
        assert_int_equal(speak(&l, now + LOG_WINDOW_USEC - 1, 3, &n), 0);
        now += LOG_WINDOW_USEC;
        /* What was not said is told once. */
        assert_int_equal(speak(&l, now, LOG_BURST, &n), LOG_BURST);
        assert_int_equal(n, 10);
        assert_int_equal(speak(&l, now + LOG_WINDOW_USEC, 1, &n), 1);
        assert_int_equal(n, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_limit),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
