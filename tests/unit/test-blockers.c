/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Against a made-up /proc, whose processes have numbers that no real one has: what other kernels, other
 * namespaces and bad moments make of it. tests/system/test_blockers.py has the real thing. */
#include "unit.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "core/users/blockers.h"

#define A 900000001
#define B 900000002

#define ROOT "1 0 8:1 / / rw shared:7 - ext4 d rw\n"
#define OVERLAY ROOT "40 1 0:40 / /ovl rw shared:9 - overlay s rw\n"

static void make_link(const char *target, const char *path) {
        (void) unlink(path);
        assert_return_code(symlink(target, path), errno);
}

static void make_process(int pid, const char *namespace, const char *root, const char *mountinfo) {
        make_directory(at("proc/%d/ns", pid).s);
        make_directory(at("proc/%d/task/%d/fd", pid, pid).s);
        make_directory(at("proc/%d/task/%d/fdinfo", pid, pid).s);
        make_link(namespace, at("proc/%d/ns/mnt", pid).s);
        make_link("user:[1]", at("proc/%d/ns/user", pid).s);
        make_link(root, at("proc/%d/root", pid).s);
        make_text(at("proc/%d/mountinfo", pid).s, mountinfo);
        make_text(at("proc/%d/comm", pid).s, "program\n");
        make_text(at("proc/%d/maps", pid).s, "");
}

static void make_fd(int pid, int fd, const char *target, const char *info) {
        make_link(target, at("proc/%d/task/%d/fd/%d", pid, pid, fd).s);
        make_text(at("proc/%d/task/%d/fdinfo/%d", pid, pid, fd).s, info);
}

static void make_task_link(int pid, const char *name, const char *target) {
        make_link(target, at("proc/%d/task/%d/%s", pid, pid, name).s);
}

static int setup(void **state) {
        int r = scratch_setup(state);

        if (r != 0)
                return r;
        make_directory(at("proc/self/ns").s);
        make_link("mnt:[1]", at("proc/self/ns/mnt").s);
        make_link("user:[1]", at("proc/self/ns/user").s);
        make_process(A, "mnt:[1]", "/", OVERLAY);
        return 0;
}

static void assert_blockers(const char *expected) {
        const Overlay o = { .mount_point = (char *) "/ovl", .mount_id = 40, .device = makedev(0, 40) };
        char text[4096] = "";
        Blockers b;
        size_t used = 0, n_blocking = 0;

        assert_return_code(blockers_find(&o, at("proc").s, NULL, &b), 0);
        for (size_t i = 0; i < b.n; i++) {
                n_blocking += b.items[i].is_blocking;
                used += (size_t) snprintf(
                        text + used, sizeof(text) - used, "%s%d %s %s%s%s\n",
                        b.items[i].is_blocking ? "!" : "", (int) b.items[i].pid,
                        blocker_kind_to_string(b.items[i].kind), b.items[i].path ?: "(unknown)",
                        b.items[i].where ? " at " : "", b.items[i].where ?: "");
        }
        assert_int_equal(b.n_blocking, n_blocking);
        blockers_done(&b);
        assert_string_equal(text, expected);
}

#define INFO(flags, mount) "pos:\t0\nflags:\t" flags "\nmnt_id:\t" mount "\nino:\t7\n"

static void test_descriptors(void **state) {
        make_fd(A, 0, "/dev/null", INFO("0100002", "1"));
        make_fd(A, 1, "pipe:[5]", INFO("01", "14"));
        make_fd(A, 2, "/ovl/a", INFO("0100001", "40"));
        make_fd(A, 3, "/ovl/a", INFO("0100001", "40"));
        make_fd(A, 4, "/ovl/b/c (deleted)", INFO("0100000", "40"));
        make_fd(A, 5, "/ovl", INFO("0300000", "40"));
        make_fd(A, 6, "/ovl/w", INFO("010100001", "40")); /* O_PATH says nothing about writing */
        make_fd(A, 7, "/ovl/l", INFO("0100000", "40") "lock:\t1: FLOCK  ADVISORY  WRITE 5 00:28:7 0 EOF\n");
        make_fd(A, 8, "/outside/x", INFO("0100002", "40")); /* not below the mount point, as we see it */
        make_fd(A, 9, "/ovl/gone", "");                     /* closed meanwhile */
        assert_blockers(
                "!900000001 open-write a\n!900000001 open-write outside/x\n!900000001 lock l\n"
                "900000001 open \n900000001 open b/c (deleted)\n900000001 open l\n900000001 open w\n");
}

static void test_fifo(void **state) {
        char expected[2 * UNIT_PATH_MAX];

        assert_return_code(mkfifo(at("fifo").s, 0600), errno);
        make_fd(A, 3, at("fifo").s, INFO("0100002", "40"));
        make_fd(A, 4, "/dev/null", INFO("0100002", "40")); /* nobody misses what goes to a device */
        (void) snprintf(
                expected, sizeof(expected), "!900000001 fifo %s\n900000001 open dev/null\n",
                at("fifo").s + 1);
        assert_blockers(expected);
}

static void test_watches(void **state) {
        make_fd(A, 3, "anon_inode:inotify",
                INFO("00", "15") "inotify wd:2 ino:3 sdev:28 mask:2 ignored_mask:0 fhandle-bytes:24\n"
                                 "inotify wd:1 ino:7 sdev:2c mask:2 ignored_mask:0\n");
        make_fd(A, 4, "anon_inode:[fanotify]",
                INFO("02", "15") "fanotify flags:0 event-flags:8000\n"
                                 "fanotify ino:7 sdev:28 mflags:0 mask:20 ignored_mask:0\n"
                                 "fanotify mnt_id:28 mflags:0 mask:20 ignored_mask:0\n"
                                 "fanotify sdev:29 mflags:0 mask:20 ignored_mask:0\n");
        make_fd(A, 5, "/ovl/f", INFO("0100000", "40"));
        assert_blockers(
                "!900000001 watch (unknown)\n!900000001 watch \n!900000001 watch f\n900000001 open f\n");
}

static void test_mappings(void **state) {
        make_text(
                at("proc/%d/maps", A).s,
                "7f40-7f41 r--p 00000000 00:28 7                          /ovl/a b\n"
                "7f41-7f42 rw-p 00000000 00:28 7                          /ovl/a b\n"
                "7f42-7f43 rw-s 00000000 00:28 8                          /ovl/shared\n"
                "7f43-7f44 r-xp 00000000 08:01 9                          /ovl/old/kernel\n" /* before 6.8 */
                "7f44-7f45 r-xp 00000000 08:01 9                          /usr/lib/libc.so\n"
                "7f45-7f46 r--p 00000000 00:28 9                          /detached\n"
                "7f46-7f47 rw-p 00000000 00:00 0                          [heap]\n"
                "7f47-7f48 rw-p 00000000 00:00 0\n"
                "nonsense\n");
        assert_blockers(
                "!900000001 mmap shared\n900000001 mmap a b\n900000001 mmap detached\n900000001 mmap "
                "old/kernel\n");
}

static void make_hanging(int pid) {
        make_process(pid, "mnt:[1]", "/", OVERLAY);
        assert_return_code(unlink(at("proc/%d/maps", pid).s), errno);
        assert_return_code(mkfifo(at("proc/%d/maps", pid).s, 0600), errno);
}

/* A process that hangs with its memory map locked; others are seen nevertheless. */
static void test_hanging(void **state) {
        make_hanging(A);
        make_process(B, "mnt:[1]", "/", OVERLAY);
        make_task_link(B, "cwd", "/ovl/d");
        make_task_link(B, "root", "/");
        assert_blockers("!900000001 mmap (unknown)\n900000002 cwd d\n");
}

/* However many there are: whoever does not hang is not taken for one that does. */
static void test_many_hanging(void **state) {
        const Overlay o = { .mount_point = (char *) "/ovl", .mount_id = 40, .device = makedev(0, 40) };
        Blockers b;

        for (int i = 0; i < 30; i++)
                if (i % 2 == 0)
                        make_hanging(A + i);
                else
                        make_process(A + i, "mnt:[1]", "/", OVERLAY);
        assert_return_code(blockers_find(&o, at("proc").s, NULL, &b), 0);
        assert_int_equal(b.n, 15);
        for (size_t i = 0; i < b.n; i++)
                assert_int_equal(b.items[i].pid, A + 2 * i);
        blockers_done(&b);
}

static void test_sockets(void **state) {
        make_directory(at("proc/%d/net", A).s);
        make_link("net:[made up]", at("proc/%d/ns/net", A).s);
        make_text(
                at("proc/%d/net/unix", A).s,
                "Num       RefCount Protocol Flags    Type St Inode Path\n"
                "0000000000000000: 00000002 00000000 00010000 0001 01 11 /ovl/run/s with blanks\n"
                "0000000000000000: 00000003 00000000 00000000 0001 03 12 /ovl/accepted\n"
                "0000000000000000: 00000002 00000000 00000000 0002 03 13 /ovl/datagram\n"
                "0000000000000000: 00000002 00000000 00010000 0001 01 14 @/ovl/abstract\n"
                "0000000000000000: 00000002 00000000 00010000 0001 01 15 relative\n"
                "0000000000000000: 00000002 00000000 00010000 0001 01 16 /run/elsewhere\n"
                "0000000000000000: 00000002 00000000 00010000 0001 01 17 /ovl/../x\n"
                "0000000000000000: 00000003 00000000 00000000 0001 03 18\n"
                "0000000000000000: 00000002 00000000 00010000 0001 01 19 /ovl/nobody\n");
        make_task_link(A, "cwd", "/ovl/wd");
        for (int i = 11; i <= 18; i++) {
                char target[32];

                (void) snprintf(target, sizeof(target), "socket:[%d]", i);
                make_fd(A, i, target, INFO("02", "10"));
        }
        assert_blockers("!900000001 socket datagram\n!900000001 socket run/s with blanks\n!900000001 socket "
                        "wd/relative\n900000001 cwd wd\n");
}

/* Held by a descriptor that is on its way to somebody, or by one of a process that has ended. */
static void test_lock_table(void **state) {
        make_fd(A, 7, "/ovl/l",
                INFO("0100000", "40") "lock:\t1: FLOCK  ADVISORY  WRITE 900000001 00:28:7 0 EOF\n");
        make_text(
                at("proc/locks").s,
                "1: FLOCK  ADVISORY  WRITE 900000001 00:28:7 0 EOF\n"
                "2: POSIX  ADVISORY  WRITE 900000001 08:01:8 0 EOF\n"
                "3: OFDLCK ADVISORY  READ  -1 00:28:9 0 EOF\n"
                "4: FLOCK  ADVISORY  WRITE 900000003 00:28:10 0 EOF\n"
                "4: -> FLOCK  ADVISORY  WRITE 900000001 00:28:10 0 EOF\n");
        assert_blockers(
                "!0 lock (unknown)\n!900000001 lock l\n!900000003 lock (unknown)\n900000001 open l\n");
}

/* Its paths begin at its root, those of links at that of its namespace. */
static void test_changed_root(void **state) {
        make_process(B, "mnt:[1]", "/ovl/jail", "43 40 0:40 /jail/srv /srv rw - overlay s rw\n");
        make_task_link(B, "root", "/ovl/jail");
        make_task_link(B, "cwd", "/ovl/jail/srv/x");
        make_fd(B, 3, "/ovl/jail/srv/y", INFO("0100001", "43"));
        assert_blockers("!0 mount jail/srv at /ovl/jail/srv\n!900000002 open-write jail/srv/y\n"
                        "900000002 cwd jail/srv/x\n900000002 root jail\n");
}

/* What is mounted upon the overlay is not the overlay. */
static void test_covered(void **state) {
        make_process(A, "mnt:[1]", "/", OVERLAY "41 40 0:50 / /ovl/in rw - tmpfs t rw\n");
        make_task_link(A, "cwd", "/ovl/in/x");
        make_task_link(A, "root", "/ovl/inner");
        assert_blockers("0 mount in at /ovl/in\n900000001 root inner\n");
}

static void test_namespaces(void **state) {
        static const struct {
                const char *mountinfo, *user, *expected;
        } rows[] = {
                /* nothing spreads there */
                { "11 0 8:1 / / rw - ext4 d rw\n50 11 0:40 / /o rw - overlay s rw\n", "user:[1]",
                  "!900000002 mount  at /o\n" },
                /* a slave, a peer, and a slave of a slave */
                { "11 0 8:1 / / rw master:7 - ext4 d rw\n50 11 0:40 / /ovl rw master:9 - overlay s rw\n",
                  "user:[1]", "" },
                { "11 0 8:1 / / rw shared:7 - ext4 d rw\n50 11 0:40 / /ovl rw shared:9 - overlay s rw\n",
                  "user:[1]", "" },
                { "10 0 8:1 / /x rw shared:8 master:7 - ext4 d rw\n11 0 8:1 / / rw master:8 - ext4 d rw\n"
                  "50 11 0:40 / /ovl rw - overlay s rw\n",
                  "user:[1]", "" },
                /* of another user: the mounts are locked there */
                { "11 0 8:1 / / rw master:7 - ext4 d rw\n50 11 0:40 / /ovl rw master:9 - overlay s rw\n",
                  "user:[2]", "!900000002 mount  at /ovl\n" },
                /* a slave of something else */
                { "11 0 8:1 / / rw master:6 - ext4 d rw\n50 11 0:40 / /ovl rw - overlay s rw\n", "user:[1]",
                  "!900000002 mount  at /ovl\n" },
                /* a part of it moves nowhere */
                { "11 0 8:1 / / rw master:7 - ext4 d rw\n50 11 0:40 /d /ovl rw - overlay s rw\n", "user:[1]",
                  "!900000002 mount d at /ovl\n" },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                make_process(B, "mnt:[2]", "/", rows[i].mountinfo);
                make_link(rows[i].user, at("proc/%d/ns/user", B).s);
                assert_blockers(rows[i].expected);
        }
}

/* Files of it are open still after it was swapped out and is in no table any more. */
static void test_detached(void **state) {
        make_process(A, "mnt:[1]", "/", ROOT "44 1 0:45 / /ovl rw - overlay s rw\n");
        make_fd(A, 3, "/d/f", INFO("0100001", "40"));
        make_fd(A, 4, "/ovl/new", INFO("0100001", "44"));
        make_task_link(A, "cwd", "/ovl");
        make_task_link(A, "root", "/");
        assert_blockers("!900000001 open-write d/f\n");
}

/* Who stands in it is told by the mount id alone. */
static void test_standing_in_detached(void **state) {
        Overlay o = { .mount_point = (char *) "/ovl", .device = makedev(0, 40) };
        struct statx st;
        Blockers b;

        make_directory(at("d").s);
        assert_return_code(statx(AT_FDCWD, at("d").s, 0, STATX_MNT_ID, &st), errno);
        o.mount_id = (int) st.stx_mnt_id;
        make_process(A, "mnt:[1]", "/", ROOT);
        make_task_link(A, "cwd", at("d").s);
        make_task_link(A, "root", "/proc");
        assert_return_code(blockers_find(&o, at("proc").s, NULL, &b), 0);
        assert_int_equal(b.n, 1);
        assert_int_equal(b.items[0].kind, BLOCKER_CWD);
        assert_string_equal(b.items[0].path, at("d").s + 1);
        blockers_done(&b);
}

static void test_text(void **state) {
        Blocker items[] = {
                { .kind = BLOCKER_MOUNT, .is_blocking = true, .where = (char *) "/b" },
                { .kind = BLOCKER_LOCK, .is_blocking = true, .pid = 5, .command = "vim" },
                { .kind = BLOCKER_WATCH, .is_blocking = true, .pid = 5, .command = "vim" },
                { .kind = BLOCKER_MOUNT, .is_blocking = true, .pid = 6, .where = (char *) "/c" },
                { .kind = BLOCKER_FIFO, .is_blocking = true, .pid = 7, .command = "sh" },
                { .kind = BLOCKER_CWD, .pid = 8, .command = "bash" },
        };
        char text[BLOCKERS_TEXT_SIZE];

        blockers_to_text(&(Blockers){ .items = items, .n = 6, .n_blocking = 5 }, text);
        assert_string_equal(text, "mount at '/b', 5 (vim, lock), 6 (?, mount at '/c') and 1 more");
        blockers_to_text(&(Blockers){ .items = items + 5, .n = 1 }, text);
        assert_string_equal(text, "");
}

#define blockers_test(f) cmocka_unit_test_setup_teardown(f, setup, scratch_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                blockers_test(test_descriptors),
                blockers_test(test_fifo),
                blockers_test(test_watches),
                blockers_test(test_mappings),
                blockers_test(test_hanging),
                blockers_test(test_many_hanging),
                blockers_test(test_sockets),
                blockers_test(test_lock_table),
                blockers_test(test_changed_root),
                blockers_test(test_covered),
                blockers_test(test_namespaces),
                blockers_test(test_detached),
                blockers_test(test_standing_in_detached),
                cmocka_unit_test(test_text),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
