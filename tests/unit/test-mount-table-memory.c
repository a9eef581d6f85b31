/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A mount table of which a part is left out is worse than none. Allocations fail here one after the other,
 * libmount's as well. */
#include <string.h>

#include "core/mount/mount-table.h"
#include "unit.h"

static long until_failure; /* 0: none fails */

#ifndef __SANITIZE_ADDRESS__
#include "../lib/failing-malloc.h"

static bool fails(void) {
        if (until_failure == 0 || --until_failure > 0)
                return false;
        errno = ENOMEM;
        return true;
}
#endif

#define TABLE                                                                                               \
        "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"                                           \
        "30 21 0:40 / /ovl rw,relatime - overlay none rw,lowerdir=/l,upperdir=/u,workdir=/w\n"              \
        "31 30 0:41 /a\\040b /ovl/in\\040side rw master:2 - tmpfs none rw,size=4k\n"

static void test_all_or_nothing(void **state) {
        Path file = at("table");
        unsigned n = 0;
        int r;

        make_text(file.s, TABLE);
        do {
                MountTable t = { 0 };

                until_failure = ++n;
                r = mount_table_read(file.s, &t);
                if (until_failure > 0)
                        r = 1; /* there were not that many */
                until_failure = 0;
                if (r >= 0) {
                        assert_int_equal(t.n, 3);
                        assert_string_equal(t.items[1].target, "/ovl");
                        assert_string_equal(t.items[2].root, "/a b");
                        assert_string_equal(t.items[2].fs_options, "rw,size=4k");
                } else
                        assert_int_equal(r, -ENOMEM);
                mount_table_done(&t);
        } while (r <= 0);
#ifndef __SANITIZE_ADDRESS__
#include "../lib/failing-malloc.h"

        assert_true(n > 20);
#endif
}

int main(void) {
        const struct CMUnitTest tests[] = { unit_test_scratch(test_all_or_nothing) };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
