/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/patience.h"

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
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

        assert_int_equal(patience_read(&p, 0, "/proc/self/smaps", &text), 0);
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
        assert_int_equal(patience_read(&p, 0, path, &text), -ETIMEDOUT);
        assert_null(text);
        assert_int_equal(p.left_usec, 100 * USEC_PER_MSEC);
        assert_int_equal(patience_read(&p, 0, path, &text), -ETIMEDOUT);
        assert_int_equal(p.left_usec, 50 * USEC_PER_MSEC);
        assert_int_equal(close(fds[1]), 0); /* the threads end, and free what they have */
        assert_int_equal(close(fds[0]), 0);
}

/* A pipe that somebody writes into after longer than there is patience. */
static void *write_late(void *userdata) {
        const int *fd = userdata;

        assert_int_equal(usleep(500 * USEC_PER_MSEC), 0);
        assert_int_equal(write(*fd, "", 1), 1);
        assert_int_equal(close(*fd), 0);
        return NULL;
}

static int read_late(pid_t process, uint64_t held_up_usec) {
        Patience p = { .left_usec = 400 * USEC_PER_MSEC, .held_up_usec = held_up_usec };
        _cleanup_free_ char *text = NULL;
        pthread_t writer;
        char path[64];
        int fds[2], r;

        assert_int_equal(pipe(fds), 0);
        (void) snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[0]);
        assert_int_equal(pthread_create(&writer, NULL, write_late, &fds[1]), 0);
        r = patience_read(&p, process, path, &text);
        assert_int_equal(pthread_join(writer, NULL), 0);
        assert_int_equal(close(fds[0]), 0);
        return r;
}

/* The map of a process that holds a lock, but gets no processor to let go of it. */
static void test_a_process_that_would_run_is_waited_for(void **state) {
        pid_t busy = fork(), idle;

        if (busy == 0)
                for (;;)
                        ;
        assert_true(busy > 0);
        idle = fork();
        if (idle == 0)
                for (;;)
                        (void) pause();
        assert_true(idle > 0);
        assert_int_equal(read_late(busy, 60 * USEC_PER_SEC), 0);
        assert_int_equal(read_late(busy, 0), -ETIMEDOUT);
        assert_int_equal(read_late(idle, 60 * USEC_PER_SEC), -ETIMEDOUT);
        assert_int_equal(kill(busy, SIGKILL), 0);
        assert_int_equal(kill(idle, SIGKILL), 0);
        assert_int_equal(waitpid(busy, NULL, 0), busy);
        assert_int_equal(waitpid(idle, NULL, 0), idle);
}

/* As the memory map of a kernel thread is. */
static void test_an_empty_file(void **state) {
        Patience p = PATIENCE_INIT;
        _cleanup_free_ char *text = NULL;

        (void) mallopt(M_PERTURB, 'x'); /* sanitizers do that by themselves */
        assert_int_equal(patience_read(&p, 0, "/dev/null", &text), 0);
        (void) mallopt(M_PERTURB, 0);
        assert_string_equal(text, "");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_a_look_that_is_busy_does_not_hang),
                cmocka_unit_test(test_a_look_that_hangs_is_left_behind),
                cmocka_unit_test(test_a_process_that_would_run_is_waited_for),
                cmocka_unit_test(test_an_empty_file),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
