/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <string.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>

#include "core/mount/mount-table.h"

static MountTable read_text(const char *text) {
        Path p = at("mountinfo");
        MountTable t;

        make_text(p.s, text);
        assert_return_code(mount_table_read(p.s, &t), 0);
        return t;
}

static void test_fields(void **state) {
        MountTable t = read_text(
                "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro\n"
                "36 22 0:31 /a\\040b /mnt/x\\011y\\012z\\134w ro,nosuid master:1 propagate_from:2 - tmpfs "
                "no\\040name rw,size=1k\n"
                "37 22 0:32 / /o\xff\xfe rw - overlay o rw,lowerdir=/l\\054m\\134:n,upperdir=/u\n");

        assert_int_equal(t.n, 3);
        assert_int_equal(t.items[0].id, 22);
        assert_int_equal(t.items[0].parent_id, 1);
        assert_true(t.items[0].device == makedev(254, 1));
        assert_string_equal(t.items[1].root, "/a b");
        assert_string_equal(t.items[1].target, "/mnt/x\ty\nz\\w");
        assert_string_equal(t.items[1].type, "tmpfs");
        assert_string_equal(t.items[1].source, "no name");
        assert_string_equal(t.items[1].vfs_options, "ro,nosuid");
        assert_string_equal(t.items[1].fs_options, "rw,size=1k");
        assert_string_equal(t.items[2].target, "/o\xff\xfe");
        assert_string_equal(t.items[2].fs_options, "rw,lowerdir=/l\\054m\\134:n,upperdir=/u");
        mount_table_done(&t);
}

static void test_malformed(void **state) {
        static const char *const rows[] = {
                "",
                "\n\n",
                "nonsense\n",
                "36\n",
                "36 22 0:31 / /mnt rw\n",
                "36 22 0:31 / /mnt rw -\n",
                "36 22 0:31 / /mnt rw - tmpfs",
                "36 22 0:31 / /mnt rw - tmpfs x rw\n36 22",
                "-1 -1 99999999999:1 / / - - - - - -\n",
                "1 1 0:1 / / rw - t s \\\n",
                "1 1 0:1 / / rw - t s \\05\n",
                "1 1 0:1 \\777 /\\0 rw - t s a\\400b\n",
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                MountTable t = { 0 };
                Path p = at("mountinfo");

                make_text(p.s, rows[i]);
                (void) mount_table_read(p.s, &t); /* may refuse, must not read past the text */
                (void) mount_table_reach(&t, "/mnt");
                mount_table_done(&t);
        }
}

static void test_missing(void **state) {
        MountTable t;

        assert_int_equal(mount_table_read(at("none").s, &t), -ENOENT);
}

#define ROOT "1 0 8:1 / / rw - ext4 d rw\n"

static void test_reach(void **state) {
        static const struct {
                const char *text, *path;
                int expected; /* mount id, 0: none */
        } rows[] = {
                { "", "/a", 0 },
                { ROOT, "/a", 1 },
                { ROOT, "/", 1 },
                { ROOT "2 1 0:2 / /a rw - t a rw\n", "/a", 2 },
                { ROOT "2 1 0:2 / /a rw - t a rw\n", "/a/b", 2 },
                { ROOT "2 1 0:2 / /a rw - t a rw\n", "/ab", 1 },
                { ROOT "2 1 0:2 / /a rw - t a rw\n", "/", 1 },
                /* stacked: the last one is on top, in whatever order the lines are */
                { ROOT "2 1 0:2 / /a rw - t a rw\n3 2 0:3 / /a rw - t b rw\n", "/a", 3 },
                { ROOT "3 2 0:3 / /a rw - t b rw\n2 1 0:2 / /a rw - t a rw\n", "/a", 3 },
                /* a mount on the parent directory hides what was there before it */
                { ROOT "2 1 0:2 / /a/b rw - t x rw\n3 1 0:3 / /a rw - t y rw\n", "/a/b", 3 },
                { ROOT "2 1 0:2 / /a/b rw - t x rw\n3 1 0:3 / /a rw - t y rw\n4 3 0:4 / /a/b rw - t z rw\n",
                  "/a/b", 4 },
                { ROOT "2 1 0:2 / /a/b rw - t x rw\n3 1 0:3 / /a rw - t y rw\n4 3 0:4 / /a/b rw - t z rw\n",
                  "/a/b/c", 4 },
                /* something mounted over the root of everything */
                { ROOT "2 1 0:2 / /a rw - t x rw\n3 1 0:3 / / rw - t y rw\n", "/a", 3 },
                /* the table of a process in a chroot shows no parent */
                { "5 4 0:5 / /a rw - t x rw\n6 5 0:6 / /a/b rw - t y rw\n", "/a/b", 6 },
                { "5 4 0:5 / /a rw - t x rw\n6 5 0:6 / /a/b rw - t y rw\n", "/c", 0 },
                { "5 5 0:5 / / rw - t x rw\n", "/c", 5 },
                /* no tree: must end */
                { "1 2 0:5 / / rw - t x rw\n2 1 0:6 / / rw - t y rw\n", "/c", 0 },
                { ROOT "2 3 0:5 / /c rw - t x rw\n3 2 0:6 / /c rw - t y rw\n", "/c", 1 },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                MountTable t = read_text(rows[i].text);
                const MountEntry *e = mount_table_reach(&t, rows[i].path);

                assert_int_equal(e ? e->id : 0, rows[i].expected);
                mount_table_done(&t);
        }
}

static void test_options(void **state) {
        static const struct {
                const char *options, *key, *expected; /* NULL: absent */
        } rows[] = {
                { "rw,metacopy=on", "metacopy", "on" },
                { "rw,metacopy=on", "meta", NULL },
                { "rw,metacopy=on", "metacopyx", NULL },
                { "rw,metacopy=on", "copy", NULL },
                { "rw,ro", "ro", "" },
                { "rw,rock", "ro", NULL },
                { "rw", "rw", "" },
                { "", "rw", NULL },
                { ",,rw,", "rw", "" },
                { "a=", "a", "" },
                { "a=b=c", "a", "b=c" },
                { "lowerdir+=/x", "lowerdir", NULL },
                { "lowerdir+=/x", "lowerdir+", "/x" },
                { "a=1,a=2", "a", "1" },
                /* a ',' within a value is octal: what looks like an option there is none */
                { "lowerdir=/l\\054metacopy=on,metacopy=off", "metacopy", "off" },
                { "lowerdir=/l\\134\\054m", "lowerdir", "/l\\,m" },
                { "lowerdir=/a\\040b\\011c\\012d", "lowerdir", "/a b\tc\nd" },
                { "upperdir=/a\"b,metacopy=on", "upperdir", "/a\"b" },
                { "upperdir=/a\"b,metacopy=on,x=\"", "metacopy", "on" },
                { "upperdir=/a#b", "upperdir", "/a#b" },
                { "upperdir=/\xff", "upperdir", "/\xff" },
                { "a=\\", "a", "\\" },
                { "a=\\1", "a", "\\1" },
                { "a=\\134054", "a", "\\054" }, /* decoded once */
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_free_ char *value = NULL;
                int r = mount_options_next(rows[i].options, rows[i].key, NULL, &value);

                assert_int_equal(r, rows[i].expected != NULL);
                assert_int_equal(mount_options_have(rows[i].options, rows[i].key), rows[i].expected != NULL);
                if (rows[i].expected)
                        assert_string_equal(value, rows[i].expected);
        }
}

static void test_options_repeated(void **state) {
        const char *next = NULL, *const expected[] = { "1", "", "3" };
        char *value;

        for (size_t i = 0; i < ELEMENTSOF(expected); i++) {
                assert_int_equal(mount_options_next("a=1,b=2,a,ab=4,a=3", "a", &next, &value), 1);
                assert_string_equal(value, expected[i]);
                free(value);
        }
        assert_int_equal(mount_options_next("a=1,b=2,a,ab=4,a=3", "a", &next, &value), 0);
        assert_int_equal(mount_options_next("a=1,b=2,a,ab=4,a=3", "a", &next, &value), 0);
}

static void test_unescape(void **state) {
        static const char *const rows[][2] = {
                { "", "" },         { "a", "a" },   { "\\,", "," }, { "\\\\", "\\" },   { "a\\:b", "a:b" },
                { "\\\\,", "\\," }, { "a\\", "a" }, { "\\", "" },   { "\\054", "054" },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_free_ char *s = strdup(rows[i][0]);

                mount_option_unescape(s);
                assert_string_equal(s, rows[i][1]);
        }
}

/* What is read is what the kernel reaches: stacked and hidden mounts, seen through statvfs's file system id.
 */
static void test_reach_real(void **state) {
        const MountEntry *e;
        MountTable t;

        need_mounts();
        make_directory(at("a/b").s);
        assert_return_code(mount("first", at("a/b").s, "tmpfs", 0, NULL), errno);
        assert_return_code(mount("second", at("a/b").s, "tmpfs", 0, NULL), errno);
        assert_return_code(mount_table_read("/proc/self/mountinfo", &t), 0);
        e = mount_table_reach(&t, at("a/b").s);
        assert_string_equal(e->source, "second");
        mount_table_done(&t);
        assert_return_code(mount("third", at("a").s, "tmpfs", 0, NULL), errno);
        assert_return_code(mount_table_read("/proc/self/mountinfo", &t), 0);
        e = mount_table_reach(&t, at("a/b").s);
        assert_string_equal(e->source, "third");
        mount_table_done(&t);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                unit_test_scratch(test_fields),  unit_test_scratch(test_malformed),
                unit_test_scratch(test_missing), unit_test_scratch(test_reach),
                cmocka_unit_test(test_options),  cmocka_unit_test(test_options_repeated),
                cmocka_unit_test(test_unescape), unit_test_scratch(test_reach_real),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
