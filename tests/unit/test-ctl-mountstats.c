/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "ctl/mountstats.h"
#include "unit.h"

/* As a Debian 13 guest shows it, without what nobody reads. */
static const char recorded[] =
        "device /dev/vda1 mounted on / with fstype ext4\n"
        "device 127.0.0.1:/export mounted on /srv/soft\\040ware with fstype nfs4 statvers=1.1\n"
        "\topts:\tro,vers=4.2,rsize=1048576,nocto,acregmin=3600\n"
        "\tage:\t61\n"
        "\tevents:\t12 6822 0 0 1 9 7854 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
        "\tRPC iostats version: 1.1  p/v: 100003/4 (nfs)\n"
        "\tper-op statistics\n"
        "\t        NULL: 1 1 0 44 24 0 0 0 0\n"
        "\t     GETATTR: 61 61 0 11712 14640 0 12 13 0\n"
        "\t      LOOKUP: 7854 7854 0 1633632 899648 61 902 1101 6822\n"
        "\tLOOKUP_ROOT: 1 1 0 160 304 0 0 0 0\n"
        "device tmpfs mounted on /srv/soft\\040ware/tmp with fstype tmpfs\n"
        "device old:/x mounted on /old with fstype nfs statvers=1.0\n"
        "\t      LOOKUP: 5 5 0 1 1 0 0 0\n";

static void expect(const char *path, int found, uint64_t lookups, uint64_t errors) {
        FILE *f = fmemopen((char *) recorded, sizeof(recorded) - 1, "r");
        MountStats s = { 0 };

        assert_non_null(f);
        assert_int_equal(mountstats_find(f, path, &s), found);
        (void) fclose(f);
        if (found) {
                assert_int_equal(s.lookups, lookups);
                assert_int_equal(s.errors, errors);
        }
}

static void test_find(void **state) {
        expect("/srv/soft ware", 1, 7854, 6822);
        expect("/srv/soft ware/geo/3.2", 1, 7854, 6822);
        expect("/srv/soft ware/tmp/x", 0, 0, 0);
        expect("/srv/soft", 0, 0, 0);
        expect("/old/d", 1, 5, UINT64_MAX);
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_find) };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
