/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "core/mount/inner-mounts.h"
#include "core/mount/mount-table.h"

/* A made-up /proc with one process. */
static void make_process(int pid, const char *namespace, const char *root, const char *mountinfo) {
        make_directory(at("proc/%d/ns", pid).s);
        if (namespace)
                assert_return_code(symlink(namespace, at("proc/%d/ns/mnt", pid).s), errno);
        if (root)
                assert_return_code(symlink(root, at("proc/%d/root", pid).s), errno);
        if (mountinfo)
                make_text(at("proc/%d/mountinfo", pid).s, mountinfo);
}

/* One line for each: "PATH WHERE KIND PID". Others on a real machine may mount overlays by relative paths,
 * which may lead anywhere as long as the kernel is not asked. */
static void show(const OverlayInnerMount *m, size_t n, bool is_real, char *buffer, size_t size) {
        static const char *const kinds[] = {
                [INNER_MOUNT] = "mount", [INNER_BIND] = "bind", [INNER_LAYER] = "layer"
        };
        size_t used = 0;

        buffer[0] = '\0';
        for (size_t i = 0; i < n; i++)
                if (!is_real || !m[i].is_somewhere)
                        used += (size_t) snprintf(
                                buffer + used, size - used, "[%s%s] %s %s %d\n",
                                m[i].is_somewhere ? "?" : "", m[i].path, m[i].where, kinds[m[i].kind],
                                (int) m[i].pid);
}

static void assert_inner(dev_t device, const char *proc, const char *expected) {
        Overlay o = { .device = device };
        OverlayInnerMount *m;
        char buffer[4096];
        size_t n;

        assert_return_code(overlay_inner_mounts(&o, proc, NULL, &m, &n), 0);
        show(m, n, /* is_real= */ !proc, buffer, sizeof(buffer));
        overlay_inner_mounts_free(m, n);
        assert_string_equal(buffer, expected);
}

#define ROOT "1 0 8:1 / / rw - ext4 d rw\n"
#define OVERLAY ROOT "2 1 0:40 / /o rw - overlay s rw\n"

static void test_tables(void **state) {
        static const struct {
                const char *mountinfo, *expected;
        } rows[] = {
                { ROOT, "" },
                { OVERLAY, "" },
                { OVERLAY "3 2 0:3 / /o/a/b rw - tmpfs t rw\n", "[a/b] /o/a/b mount 7\n" },
                /* only what hangs on the overlay itself */
                { OVERLAY "3 2 0:3 / /o/a rw - tmpfs t rw\n4 3 0:4 / /o/a/b rw - tmpfs t rw\n",
                  "[a] /o/a mount 7\n" },
                /* upon its root */
                { OVERLAY "3 2 0:3 / /o rw - tmpfs t rw\n", "[] /o mount 7\n" },
                /* what was mounted before the overlay covers nothing of it */
                { OVERLAY "3 1 0:3 / /o/a rw - tmpfs t rw\n", "" },
                { OVERLAY "3 1 0:40 /x/y /elsewhere rw - overlay s rw\n", "[x/y] /elsewhere bind 7\n" },
                { OVERLAY "3 1 0:40 / /elsewhere rw - overlay s rw\n", "" },
                { OVERLAY "3 1 0:40 /x /e rw - overlay s rw\n4 3 0:4 / /e/y/z rw - tmpfs t rw\n",
                  "[x] /e bind 7\n[x/y/z] /e/y/z mount 7\n" },
                /* a directory of the overlay, mounted on another one of it */
                { OVERLAY "3 2 0:40 /x /o/y rw - overlay s rw\n", "[x] /o/y bind 7\n[y] /o/y mount 7\n" },
                { OVERLAY "3 2 0:3 / /o/a\\040b\\134 rw - tmpfs t rw\n", "[a b\\] /o/a b\\ mount 7\n" },
                { OVERLAY "3 1 0:40 /x//deleted /e rw - overlay s rw\n", "" },
                /* another overlay is not ours */
                { OVERLAY "3 1 0:41 / /p rw - overlay s rw,lowerdir=/l\n4 3 0:4 / /p/y rw - tmpfs t rw\n",
                  "" },
                /* layers of another one, as they are spelled */
                { OVERLAY "3 1 0:41 / /p rw - overlay s rw,lowerdir=/o/a:/lower\n", "[a] /p layer 7\n" },
                { OVERLAY "3 1 0:41 / /p rw - overlay s rw,lowerdir=/lower::/o/./a//b/\n",
                  "[a/b] /p layer 7\n" },
                { OVERLAY "3 1 0:41 / /p rw - overlay s rw,lowerdir+=/l,lowerdir+=/o/a:b,datadir+=/o\n",
                  "[] /p layer 7\n[a:b] /p layer 7\n" },
                { OVERLAY "3 1 0:41 / /p rw - overlay s rw,lowerdir=/l,upperdir=/o/u,workdir=/o/w\n",
                  "[u] /p layer 7\n[w] /p layer 7\n" },
                { OVERLAY "3 1 0:41 / /p rw - overlay s rw,lowerdir=/o/a\\134:b\\054c\n",
                  "[a:b,c] /p layer 7\n" },
                { OVERLAY
                  "3 1 0:40 /x /e rw - overlay s rw\n4 1 0:41 / /p rw - overlay s rw,lowerdir=/e/y\n",
                  "[x] /e bind 7\n[x/y] /p layer 7\n" },
                /* seen twice, it is one */
                { OVERLAY "3 1 0:41 / /p rw - overlay s rw,lowerdir=/o/a\n4 1 0:41 / /q rw - overlay s "
                          "rw,lowerdir=/o/a\n",
                  "[a] /p layer 7\n" },
                /* the place that nothing covers */
                { OVERLAY "3 1 0:41 / /p rw - overlay s rw,lowerdir=/o/a\n5 3 0:5 / /p rw - tmpfs t rw\n4 1 "
                          "0:41 / /q rw - overlay s rw,lowerdir=/o/a\n",
                  "[a] /q layer 7\n" },
                /* nobody knows what it is relative to */
                { OVERLAY "3 1 0:41 / /p rw - overlay s rw,lowerdir=a/b:/lower:../c:..\n",
                  "[?] /p layer 7\n[?a/b] /p layer 7\n[?c] /p layer 7\n" },
                { OVERLAY "3 1 0:41 / /p rw - overlay s rw\n", "[?] /p layer 7\n" },
                { OVERLAY "3 1 0:41 / /p rw - overlay s rw,lowerdir=/lower:/other\n", "" },
                { "2 1 0:40 / / rw - overlay s rw\n3 2 0:3 / /proc rw - proc p rw\n",
                  "[proc] /proc mount 7\n" },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                make_process(7, i == 0 ? "mnt:[1]" : NULL, i == 0 ? "/" : NULL, rows[i].mountinfo);
                assert_inner(makedev(0, 40), at("proc").s, rows[i].expected);
        }
}

/* One namespace is looked at once, also when the first of its processes has gone; another root shows other
 * mounts. */
static void test_processes(void **state) {
        make_process(1, "mnt:[1]", "/", NULL);
        make_process(2, "mnt:[1]", "/", OVERLAY "3 2 0:3 / /o/first rw - tmpfs t rw\n");
        make_process(3, "mnt:[2]", "/", OVERLAY "4 2 0:3 / /o/second rw - tmpfs t rw\n");
        make_process(
                4, "mnt:[2]", "/c",
                "6 5 0:40 /in /o rw - overlay s rw\n7 6 0:4 / /o/third rw - tmpfs t rw\n4 2 0:3 / /x rw - "
                "tmpfs t rw\n");
        make_process(5, "mnt:[3]", "/", "");
        make_process(
                9, "mnt:[1]", "/",
                NULL); /* whatever the order of the listing, one of the dead is met first */
        make_process(6, NULL, "/", OVERLAY "9 2 0:3 / /o/none rw - tmpfs t rw\n");
        make_process(8, "mnt:[4]", NULL, OVERLAY "9 2 0:3 / /o/none rw - tmpfs t rw\n");
        make_directory(at("proc/sys").s);
        make_directory(at("proc/12x").s);
        make_directory(at("proc/99999999999999999999").s);
        assert_inner(
                makedev(0, 40), at("proc").s,
                "[first] /o/first mount 2\n[in] /o bind 4\n[in/third] /o/third mount 4\n[second] /o/second "
                "mount 3\n");
}

/* Seen from two roots, it is still one mount. */
static void test_two_roots(void **state) {
        Overlay o = { .device = makedev(0, 40) };
        OverlayInnerMount *m;
        size_t n;

        make_process(1, "mnt:[1]", "/", OVERLAY "3 2 0:3 / /o/a rw - tmpfs t rw\n");
        make_process(2, "mnt:[1]", "/o", "2 1 0:40 / / rw - overlay s rw\n3 2 0:3 / /a rw - tmpfs t rw\n");
        assert_return_code(overlay_inner_mounts(&o, at("proc").s, NULL, &m, &n), 0);
        assert_int_equal(n, 1);
        assert_string_equal(m[0].path, "a");
        overlay_inner_mounts_free(m, n);
}

static int count_table(const MountTable *t, pid_t pid, const char *namespace, void *userdata) {
        size_t *n = userdata;

        return ++*n == 2 ? -ECANCELED : 0;
}

static void test_foreach(void **state) {
        size_t n = 0;

        for (int pid = 1; pid <= 5; pid++)
                make_process(pid, "mnt:[1]", "/", ROOT);
        assert_return_code(mount_namespaces_foreach(at("proc").s, count_table, &n), 0);
        assert_int_equal(n, 1);
        make_process(6, "mnt:[2]", "/", ROOT);
        make_process(7, "mnt:[3]", "/", ROOT);
        n = 0;
        assert_int_equal(mount_namespaces_foreach(at("proc").s, count_table, &n), -ECANCELED);
        assert_int_equal(n, 2);
        assert_int_equal(mount_namespaces_foreach(at("nothing").s, count_table, &n), -ENOENT);
}

static void mount_inside(void *userdata) {
        if (mount("inside", at("mp/d/e").s, "tmpfs", 0, NULL) < 0)
                _exit(2);
}

/* A mount in another namespace is what an exchange would not notice by itself. */
static void test_real(void **state) {
        char options[4 * UNIT_PATH_MAX], expected[3 * UNIT_PATH_MAX];
        Neighbour neighbour;
        struct stat st;

        need_mounts();
        make_directory(at("l/d/e").s);
        make_directory(at("l/f").s);
        make_directory(at("u").s);
        make_directory(at("w").s);
        make_directory(at("mp").s);
        make_directory(at("out").s);
        (void) snprintf(
                options, sizeof(options), "lowerdir=%s,upperdir=%s,workdir=%s", at("l").s, at("u").s,
                at("w").s);
        mount_overlay(at("mp").s, options);
        assert_return_code(stat(at("mp").s, &st), errno);
        assert_inner(st.st_dev, NULL, "");
        neighbour_start(&neighbour, mount_inside, NULL);
        assert_return_code(mount(at("mp/f").s, at("out").s, NULL, MS_BIND, NULL), errno);
        (void) snprintf(
                expected, sizeof(expected), "[d/e] %s mount %d\n[f] %s bind %d\n", at("mp/d/e").s,
                (int) neighbour.pid, at("out").s, (int) getpid());
        assert_inner(st.st_dev, NULL, expected);
        neighbour_stop(&neighbour);
        assert_return_code(umount(at("out").s), errno);
        assert_inner(st.st_dev, NULL, "");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                unit_test_scratch(test_tables),    unit_test_scratch(test_processes),
                unit_test_scratch(test_two_roots), unit_test_scratch(test_foreach),
                unit_test_scratch(test_real),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
