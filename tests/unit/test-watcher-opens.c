/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <malloc.h>
#include <stdio.h>

#include "core/watch/watcher-internal.h"
#include "unit.h"

#define WINDOW (600 * USEC_PER_SEC)

static size_t n_tables = 1;

static void opens_freep(WatchOpens **o) {
        *o = watch_opens_free(*o);
}

/* Opens name0 … name(n-1); returns how many of these opens count. */
static unsigned pass(WatchOpens **o, unsigned n, uint64_t now) {
        unsigned counted = 0;

        for (unsigned i = 0; i < n; i++) {
                char name[32];

                (void) snprintf(name, sizeof(name), "name%u", i);
                counted += watch_opens_count(o, name, n_tables, now, WINDOW);
        }
        return counted;
}

static unsigned repeat(WatchOpens **o, const char *name, unsigned n) {
        unsigned counted = 0;

        while (n-- > 0)
                counted += watch_opens_count(o, name, n_tables, 0, WINDOW);
        return counted;
}

/* However many files there are, also more than are remembered. */
static void test_a_pass_is_no_use(void **state) {
        static const unsigned sizes[] = { 2, 100, 5000, 200000 };

        for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
                _cleanup_(opens_freep) WatchOpens *o = NULL;

                assert_int_equal(pass(&o, sizes[i], 0), 2);
                assert_int_equal(pass(&o, sizes[i], 0), 2);
        }
}

/* One that opens each file twice: to see what it is, and to read it. */
static void test_each_twice(void **state) {
        _cleanup_(opens_freep) WatchOpens *o = NULL;
        unsigned counted = 0;

        for (unsigned i = 0; i < 1000; i++) {
                char name[32];

                (void) snprintf(name, sizeof(name), "name%u", i);
                counted += repeat(&o, name, 2);
        }
        assert_int_equal(counted, 4);
}

/* Each start of a program counts, be it of a library or two, or of a thousand modules. */
static void test_returns(void **state) {
        static const unsigned sizes[] = { 1, 2, 30, 1000, 5000 };

        for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
                _cleanup_(opens_freep) WatchOpens *o = NULL;
                unsigned counted = 0;

                for (unsigned k = 0; k < 20; k++)
                        counted += pass(&o, sizes[i], 0);
                assert_int_equal(counted, sizes[i] == 1 ? 20 : 40);
        }
}

static void test_any_order(void **state) {
        _cleanup_(opens_freep) WatchOpens *o = NULL;

        assert_int_equal(repeat(&o, "a", 5), 5);
        assert_int_equal(pass(&o, 100, 0), 1);
        assert_int_equal(repeat(&o, "b", 5), 4);
        assert_int_equal(repeat(&o, "c", 5), 0);
        assert_int_equal(repeat(&o, "c", 1), 1);
        assert_int_equal(repeat(&o, "a", 1), 1);
}

/* What was hot before counts against what is hot now for one window at most. */
static void test_window(void **state) {
        _cleanup_(opens_freep) WatchOpens *o = NULL;

        assert_int_equal(repeat(&o, "a", 50), 50);
        assert_int_equal(repeat(&o, "b", 50), 50);
        assert_int_equal(repeat(&o, "c", 30), 0);
        assert_non_null(o = watch_opens_expire(o, WINDOW - 1, WINDOW));
        assert_true(watch_opens_count(&o, "c", n_tables, WINDOW, WINDOW));
        o = watch_opens_expire(o, 3 * WINDOW, WINDOW);
        assert_null(o);
        assert_null(watch_opens_expire(NULL, 0, WINDOW));
}

/* The more directories there are, the fewer names of each are remembered: what counts stays the same. */
static void test_memory(void **state) {
        static const size_t many[] = { 100, 8000, 100000 };

        for (size_t i = 0; i < ELEMENTSOF(many); i++) {
                _cleanup_(opens_freep) WatchOpens *o = NULL;
                unsigned counted = 0;

                n_tables = many[i];
                for (unsigned k = 0; k < 20; k++)
                        counted += pass(&o, 5000, 0);
                assert_int_equal(counted, 40);
                assert_true(n_tables * malloc_usable_size(o) < UINT64_C(150) << 20);
        }
        n_tables = 1;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_a_pass_is_no_use), cmocka_unit_test(test_each_twice),
                cmocka_unit_test(test_returns),          cmocka_unit_test(test_any_order),
                cmocka_unit_test(test_window),           cmocka_unit_test(test_memory),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
