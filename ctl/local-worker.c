/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/local-worker.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/path-util.h"

#define LEAVE_PATIENCE_MSEC 500

extern char **environ;

static const char *worker_path(void) {
        const char *e = getenv("OVLFIND_WORKER");

        return e && *e ? e : WORKER_PATH;
}

/* Starts the worker with the other end of *ret_fd as its WORKER_FD. */
static int worker_spawn(int *ret_fd, pid_t *ret_pid) {
        _cleanup_close_ int ours = -EBADF, theirs = -EBADF;
        const char *path = worker_path();
        char *argv[] = { (char *) path_basename(path), NULL };
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attributes;
        sigset_t defaults;
        int fds[2], r;

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
                return -errno;
        ours = fds[0];
        theirs = fds[1];
        r = -posix_spawn_file_actions_init(&actions);
        if (r < 0)
                return r;
        (void) sigemptyset(&defaults);
        (void) sigaddset(&defaults, SIGPIPE); /* ignored here, and that would be inherited */
        (void) posix_spawnattr_init(&attributes);
        (void) posix_spawnattr_setsigdefault(&attributes, &defaults);
        (void) posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
        /* Also right when theirs is WORKER_FD already: the action then clears its close-on-exec flag. */
        r = -posix_spawn_file_actions_adddup2(&actions, theirs, WORKER_FD);
        if (r >= 0)
                r = -posix_spawn(ret_pid, path, &actions, &attributes, argv, environ);
        (void) posix_spawnattr_destroy(&attributes);
        (void) posix_spawn_file_actions_destroy(&actions);
        if (r >= 0)
                *ret_fd = TAKE_FD(ours);
        return r;
}

static void worker_wait(pid_t pid) {
        int status;

        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
                ;
}

static void worker_leave(pid_t pid) {
        struct pollfd p = { .fd = pidfd_open(pid, 0), .events = POLLIN };

        if (p.fd < 0 || poll(&p, 1, LEAVE_PATIENCE_MSEC) > 0)
                worker_wait(pid);
        (void) fd_close(p.fd);
}

static int receive(int fd, local_worker_func func, void *userdata, Failure *reterr) {
        _cleanup_free_ WireRecord *wire = malloc(sizeof(*wire));
        int r = wire ? 1 : -ENOMEM;

        while (r > 0 && (r = wire_receive(fd, wire)) > 0) {
                int k = func(wire, userdata);

                if (k >= 0 && wire->kind == WIRE_RESULT)
                        return wire_result(wire, reterr);
                r = k < 0 ? k : 1;
        }
        return r < 0 ? failure_set_errno(reterr, r, "cannot read the worker's answer")
                     : failure_set(reterr, FAILURE_FAILED, EIO, "the worker ended without a result");
}

int local_worker_run(
        WireRequest *q, LocalWorkerEnd end, local_worker_func func, void *userdata, Failure *reterr) {
        _cleanup_close_ int fd = -EBADF;
        pid_t pid = 0;
        int r, k;

        r = worker_spawn(&fd, &pid);
        k = r < 0 ? r : wire_request_send(fd, q);
        wire_request_done(q);
        if (r < 0)
                return failure_set_errno(reterr, r, "cannot start '%s'", worker_path());
        r = k < 0 ? failure_set_errno(reterr, k, "cannot ask the worker")
                  : receive(fd, func, userdata, reterr);
        if (end != LOCAL_WORKER_FINISH || k < 0) /* nor can one finish that was not asked */
                fd = fd_close(fd);               /* end of file ends the worker, whatever it is at */
        if (end == LOCAL_WORKER_LEAVE)
                worker_leave(pid);
        else
                worker_wait(pid);
        return r;
}
