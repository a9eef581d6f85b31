/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Plain files stand for a process in /proc. It is a user who can change no name in any directory: what makes
 * him one who can is that it cannot be told. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs-util.h"
#include "core/users/writers.h"
#include "unit.h"

#define ACCESSES_MAX 256 /* as in writers.c */

#define IDS(field, id) field ":\t" id "\t" id "\t" id "\t" id "\n"
#define UIDS IDS("Uid", "77001")
#define GIDS IDS("Gid", "77001")
#define GROUPS "Groups:\t77002 77003 \n"
#define CAPABILITIES "CapPrm:\t0000000000000000\n"
#define STATUS "Name:\tcat\n" UIDS GIDS GROUPS CAPABILITIES
#define MAP "         0          0 4294967295\n"

static void remove_file(const char *path) {
        assert_return_code(unlink(path), errno);
}

static void make_process(void) {
        make_directory(at("proc/task/1").s);
        make_directory(at("proc/task/2").s);
        make_text(at("proc/uid_map").s, MAP);
        make_text(at("proc/gid_map").s, MAP);
        make_text(at("proc/task/1/status").s, STATUS);
        make_text(at("proc/task/2/status").s, STATUS);
}

static bool includes(Writers *w) {
        _cleanup_close_ int fd = open_directory(at("proc").s);
        const ProcTask t = { .process = 1, .thread = 1, .process_fd = fd, .fd = fd };

        return writers_include(w, &t, "cwd");
}

/* Asks anew: answers are remembered. */
static bool is_writer(void) {
        _cleanup_close_ int fd = open_directory(at("d").s);
        _cleanup_(writers_freep) Writers *w = NULL;

        assert_return_code(writers_new(&w), 0);
        assert_return_code(writers_add(w, fd), 0);
        return includes(w);
}

static int world_setup(void **state) {
        if (scratch_setup(state) < 0)
                return -1;
        make_directory(at("d").s);
        assert_return_code(chmod(at("d").s, 0755), errno);
        make_process();
        return 0;
}

static void test_who_is_known(void **state) {
        assert_false(is_writer());
        assert_return_code(chmod(at("d").s, 0757), errno);
        assert_true(is_writer());
}

static void test_what_cannot_be_read(void **state) {
        static const char *const wrong[] = {
                "",
                "Name:\tcat\n" GIDS GROUPS CAPABILITIES,
                "Name:\tcat\n" UIDS GROUPS CAPABILITIES,
                "Name:\tcat\n" UIDS GIDS CAPABILITIES,
                "Name:\tcat\n" UIDS GIDS GROUPS,
                "Name:\tcat\nUid:\t77001\t77001\t77001\n" GIDS GROUPS CAPABILITIES,
                "Name:\tcat\n" UIDS GIDS "Groups:\t77002 staff \n" CAPABILITIES,
                "Name:\tcat\n" UIDS GIDS GROUPS "CapPrm:\tall\n",
        };

        for (size_t i = 0; i < ELEMENTSOF(wrong); i++) {
                make_text(at("proc/task/2/status").s, wrong[i]);
                assert_true(is_writer());
        }
        remove_file(at("proc/task/2/status").s);
        make_directory(at("proc/task/2/status").s);
        assert_true(is_writer());
}

static void test_more_than_is_read(void **state) {
        FILE *f = fopen(at("proc/task/1/status").s, "ae");

        assert_non_null(f);
        for (size_t i = 0; i < 1 << 20; i++)
                assert_int_equal(putc('x', f), 'x');
        assert_int_equal(fclose(f), 0);
        assert_true(is_writer());
}

static void test_a_map_that_cannot_be_read(void **state) {
        static const char *const maps[] = { "uid_map", "gid_map" };

        for (size_t i = 0; i < ELEMENTSOF(maps); i++) {
                remove_file(at("proc/%s", maps[i]).s);
                assert_true(is_writer());
                make_text(at("proc/%s", maps[i]).s, MAP);
        }
        assert_false(is_writer());
}

static void test_who_has_ended(void **state) {
        remove_file(at("proc/task/1/status").s);
        remove_file(at("proc/task/2/status").s);
        assert_false(is_writer());
}

/* Each mode is an access of its own; others may write in none of these. */
static void test_more_kinds_of_access_than_are_looked_at(void **state) {
        _cleanup_close_ int fd = open_directory(at("d").s);
        _cleanup_(writers_freep) Writers *w = NULL;
        size_t n = 0;

        assert_return_code(writers_new(&w), 0);
        for (mode_t mode = 0; n < ACCESSES_MAX; mode++)
                if ((mode & 3) != 3) {
                        assert_return_code(fchmod(fd, mode), errno);
                        assert_return_code(writers_add(w, fd), 0);
                        n++;
                }
        assert_false(includes(w));
        assert_return_code(writers_add(w, fd), 0); /* known */
        assert_false(includes(w));
        assert_return_code(fchmod(fd, 0770), errno);
        assert_return_code(writers_add(w, fd), 0);
        assert_true(includes(w));
        assert_return_code(fchmod(fd, 0755), errno);
}

#define test(f) cmocka_unit_test_setup_teardown(f, world_setup, scratch_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                test(test_who_is_known),      test(test_what_cannot_be_read),
                test(test_more_than_is_read), test(test_a_map_that_cannot_be_read),
                test(test_who_has_ended),     test(test_more_kinds_of_access_than_are_looked_at),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
