/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/fs-util.h"
#include "core/record/manifest.h"
#include "unit.h"

/* Who was killed while a record was written leaves what had been written of it; who still writes has it
 * locked. */
static void test_unfinished(void **state) {
        static const char *const left[] = { ".0123456789abcdef.00000000000000aa",
                                            "..findings.00000000000000bb" };
        static const char *const others[] = { ".damaged-0123456789abcdef", ".0123456789abcdef.swp",
                                              ".00000000000000aa" };
        _cleanup_close_ int dfd = open(at("%s", "").s, O_RDONLY | O_DIRECTORY | O_CLOEXEC), locked = -EBADF;
        _cleanup_(records_freep) Records *records = NULL;
        char names[512];

        for (size_t i = 0; i < ELEMENTSOF(left); i++)
                make_text(at("%s", left[i]).s, "ovlfind-mani");
        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                make_text(at("%s", others[i]).s, "");
        make_text(at(".1111111111111111.00000000000000cc").s, "");
        locked = open(at(".1111111111111111.00000000000000cc").s, O_WRONLY | O_CLOEXEC);
        assert_return_code(flock(locked, LOCK_EX), errno);

        assert_return_code(records_load(dfd, dfd, &records), 0);
        assert_return_code(records_prune(records, dfd, dfd), 0);
        list_directory(at("%s", "").s, names, sizeof(names));
        assert_string_equal(
                names,
                ".00000000000000aa .0123456789abcdef.swp .1111111111111111.00000000000000cc "
                ".damaged-0123456789abcdef");

        locked = fd_close(locked);
        assert_return_code(records_prune(records, dfd, dfd), 0);
        assert_int_equal(faccessat(dfd, ".1111111111111111.00000000000000cc", F_OK, 0), -1);
}

/* What was written to its end stays. */
static void test_written(void **state) {
        _cleanup_close_ int dfd = open(at("%s", "").s, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        char names[512];

        for (unsigned i = 0; i < 3; i++) {
                assert_return_code(file_write_atomic(dfd, "record", "text", 4), 0);
                assert_return_code(file_remove_unfinished(dfd, "record"), 0);
        }
        list_directory(at("%s", "").s, names, sizeof(names));
        assert_string_equal(names, "record");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                unit_test_scratch(test_unfinished),
                unit_test_scratch(test_written),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
