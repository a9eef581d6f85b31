/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/release/fingerprint.h"

#define MANY 20000

/* Opens the file for writing again and again, and says so once. */
static pid_t start_writer(const char *path, int ready_fd) {
        pid_t pid = fork();

        if (pid != 0)
                return pid;
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (bool is_first = true;; is_first = false) {
                int fd = open(path, O_WRONLY | O_CLOEXEC);

                if (fd < 0 || (is_first && write(ready_fd, "", 1) != 1))
                        _exit(1);
                (void) close(fd);
        }
}

/* The kernel signals who has a lease in that moment. */
static void test_asked_while_writers_come_and_go(void **state) {
        const Path file = at("file");
        const char *path = file.s;
        int fd, pipe_fds[2], status;
        unsigned n_busy = 0;
        char byte;
        pid_t pid;

        make_text(path, "content");
        assert_return_code(pipe2(pipe_fds, O_CLOEXEC), errno);
        pid = start_writer(path, pipe_fds[1]);
        assert_true(pid > 0);
        assert_int_equal(read(pipe_fds[0], &byte, 1), 1);
        for (unsigned i = 0; i < MANY; i++)
                n_busy += file_has_writer(AT_FDCWD, path);
        assert_int_equal(waitpid(pid, &status, WNOHANG), 0); /* it has been there all the while */
        assert_return_code(kill(pid, SIGKILL), errno);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_false(file_has_writer(AT_FDCWD, path));
        assert_true(n_busy < MANY);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        assert_true(fd >= 0 && file_has_writer(AT_FDCWD, path));
        (void) close(fd);
        (void) close(pipe_fds[0]);
        (void) close(pipe_fds[1]);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                unit_test_scratch(test_asked_while_writers_come_and_go),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
