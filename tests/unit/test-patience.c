/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/patience.h"

#include <malloc.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "unit.h"

#define PAGES 40000 /* below vm.max_map_count, and a quarter of a second to tell about */

/* Mappings that the kernel cannot join. */
static void *map_many(size_t page) {
        char *p = mmap(NULL, PAGES * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        assert_true(p != MAP_FAILED);
        for (size_t i = 0; i < PAGES; i += 2)
                assert_int_equal(mprotect(p + i * page, page, PROT_READ | PROT_WRITE), 0);
        return p;
}

/* Busy for longer than there is patience, as it would be with too few processors. */
static void test_a_look_that_is_busy_does_not_hang(void **state) {
        size_t page = (size_t) sysconf(_SC_PAGESIZE);
        _cleanup_free_ char *text = NULL;
        void *many = map_many(page);
        Patience p = { 0 };

        assert_int_equal(patience_read(&p, "/proc/self/smaps", &text), 0);
        assert_true(strlen(text) > PAGES * 100UL);
        assert_int_equal(munmap(many, PAGES * page), 0);
}

/* Nobody writes into a pipe's other end. */
static void test_a_look_that_hangs_is_left_behind(void **state) {
        _cleanup_free_ char *text = NULL;
        Patience p = { .left_usec = 400 * USEC_PER_MSEC };
        char path[64];
        int fds[2];

        assert_int_equal(pipe(fds), 0);
        (void) snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[0]);
        assert_int_equal(patience_read(&p, path, &text), -ETIMEDOUT);
        assert_null(text);
        assert_int_equal(p.left_usec, 100 * USEC_PER_MSEC);
        assert_int_equal(patience_read(&p, path, &text), -ETIMEDOUT);
        assert_int_equal(p.left_usec, 50 * USEC_PER_MSEC);
        assert_int_equal(close(fds[1]), 0); /* the threads end, and free what they have */
        assert_int_equal(close(fds[0]), 0);
}

/* As the memory map of a kernel thread is. */
static void test_an_empty_file(void **state) {
        Patience p = PATIENCE_INIT;
        _cleanup_free_ char *text = NULL;

        (void) mallopt(M_PERTURB, 'x'); /* sanitizers do that by themselves */
        assert_int_equal(patience_read(&p, "/dev/null", &text), 0);
        (void) mallopt(M_PERTURB, 0);
        assert_string_equal(text, "");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_a_look_that_is_busy_does_not_hang),
                cmocka_unit_test(test_a_look_that_hangs_is_left_behind),
                cmocka_unit_test(test_an_empty_file),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
