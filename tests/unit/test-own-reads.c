/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/fanotify.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs-util.h"
#include "core/mount/own-reads.h"

#define N_DIRECTORIES 3

typedef struct Taken {
        ino_t inodes[N_DIRECTORIES + 1];
        unsigned n;
        int result; /* of the first call */
} Taken;

static int take(int fd, void *userdata) {
        Taken *t = userdata;
        struct stat st;

        assert_return_code(fstat(fd, &st), errno);
        assert_true(t->n < ELEMENTSOF(t->inodes));
        t->inodes[t->n++] = st.st_ino;
        return t->n == 1 ? t->result : 0;
}

/* A queue with marks on directories. */
static int start(void) {
        int fd = fanotify_init(
                FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK | FAN_REPORT_TID, O_RDONLY | O_CLOEXEC);

        assert_return_code(fd, errno);
        for (unsigned i = 0; i < N_DIRECTORIES; i++) {
                make_directory(at("d%u", i).s);
                assert_return_code(
                        fanotify_mark(fd, FAN_MARK_ADD, FAN_ACCESS | FAN_ONDIR, AT_FDCWD, at("d%u", i).s),
                        errno);
        }
        return fd;
}

static void read_directory(unsigned i) {
        char buffer[64];

        list_directory(at("d%u", i).s, buffer, sizeof(buffer));
}

static void *read_in_thread(void *userdata) {
        read_directory(*(unsigned *) userdata);
        return NULL;
}

static void read_elsewhere(unsigned i) {
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, read_in_thread, &i), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
}

static void assert_taken(int fd, int result, int expected, unsigned n, const unsigned *order) {
        Taken t = { .result = result };
        struct stat st;

        assert_int_equal(own_reads_foreach(fd, take, &t), expected);
        assert_int_equal(t.n, n);
        for (unsigned i = 0; i < n; i++) {
                assert_return_code(stat(at("d%u", order[i]).s, &st), errno);
                assert_true(t.inodes[i] == st.st_ino);
        }
}

/* In their order, and nothing of another thread. */
static void test_own(void **state) {
        _cleanup_close_ int fd = -EBADF;

        need_mounts();
        fd = start();
        read_directory(2);
        read_elsewhere(1);
        read_directory(0);
        assert_taken(fd, 0, 0, 2, (unsigned[]){ 2, 0 });
        assert_taken(fd, 0, 0, 0, NULL);
}

/* The first failure is told, and the queue is empty all the same. */
static void test_func_fails(void **state) {
        _cleanup_close_ int fd = -EBADF;

        need_mounts();
        fd = start();
        read_directory(0);
        read_directory(1);
        assert_taken(fd, -EXFULL, -EXFULL, 2, (unsigned[]){ 0, 1 });
        assert_taken(fd, 0, 0, 0, NULL);
}

/* No event can be opened, the one of this process as little as that of a layer. */
static void test_no_descriptors(void **state) {
        _cleanup_close_ int fd = -EBADF;
        struct rlimit before, none;

        need_mounts();
        fd = start();
        read_directory(0);
        read_directory(1);
        assert_return_code(getrlimit(RLIMIT_NOFILE, &before), errno);
        none = (struct rlimit){ .rlim_cur = 0, .rlim_max = before.rlim_max };
        assert_return_code(setrlimit(RLIMIT_NOFILE, &none), errno);
        assert_taken(fd, 0, -EMFILE, 0, NULL);
        assert_return_code(setrlimit(RLIMIT_NOFILE, &before), errno);
        assert_taken(fd, 0, 0, 0, NULL);
}

static void test_no_queue(void **state) {
        assert_int_equal(own_reads_foreach(-1, take, NULL), -EBADF);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                unit_test_scratch(test_own),
                unit_test_scratch(test_func_fails),
                unit_test_scratch(test_no_descriptors),
                cmocka_unit_test(test_no_queue),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
