/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/agent.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>

#include "ctl/term.h"

#define START_MSEC 10000 /* an agent that takes longer asks somebody who has left */

static _Noreturn void agent_run(int notify_fd) {
        char number[16];

        (void) snprintf(number, sizeof(number), "%i", notify_fd);
        (void) signal(SIGPIPE, SIG_DFL); /* ignored by main(), and that would be inherited */
        (void) prctl(PR_SET_PDEATHSIG, SIGTERM);
        (void) fcntl(notify_fd, F_SETFD, 0);
        /* Not with --fallback: polkit has said that there is no other agent, and ignores one of these where
         * there is no session (seen with polkit 122). */
        (void) execlp("pkttyagent", "pkttyagent", "--notify-fd", number, NULL);
        _exit(127);
}

bool agent_open(void) {
        int fds[2];
        pid_t pid;

        if (geteuid() == 0 || !term_is_interactive(STDIN_FILENO) || !isatty(STDERR_FILENO))
                return false;
        if (pipe2(fds, O_CLOEXEC) < 0)
                return false;
        (void) fflush(stdout);
        pid = fork();
        if (pid == 0)
                agent_run(fds[1]);
        (void) fd_close(fds[1]);
        /* The agent closes it when it is ready, and the kernel when there is none. */
        if (pid > 0)
                (void) poll(&(struct pollfd){ .fd = fds[0], .events = POLLIN }, 1, START_MSEC);
        (void) fd_close(fds[0]);
        return pid > 0;
}
