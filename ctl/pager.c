/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/pager.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <systemd/sd-login.h>

#include "base/path-util.h"

#define LESS_DEFAULT "FRSXMK" /* quit if one screen, colours, chop, no init, long prompt, quit on Ctrl-C */
#define N_WORDS 16            /* of a pager's command line */

/* Someone who raised their privileges for this one command must not get a shell out of its pager. */
static bool is_secure(bool *ret_explicit) {
        const char *e = getenv("SYSTEMD_PAGERSECURE");
        uid_t uid;

        *ret_explicit = e != NULL;
        if (e)
                return strcmp(e, "1") == 0 || strcasecmp(e, "yes") == 0 || strcasecmp(e, "true") == 0 ||
                        strcasecmp(e, "on") == 0;
        return sd_pid_get_owner_uid(0, &uid) < 0 || uid != geteuid();
}

static const char *first_set(const char *a, const char *b) {
        const char *e = getenv(a);

        return e ?: getenv(b);
}

static bool is_less(const char *command) {
        return strcmp(path_basename(command), "less") == 0;
}

/* Replaces this process by the command; returns when it cannot. */
static void exec_words(const char *command) {
        _cleanup_free_ char *copy = strdup(command);
        char *words[N_WORDS + 1], *state = NULL;
        size_t n = 0;

        if (!copy)
                return;
        for (char *w = strtok_r(copy, " \t", &state); w && n < N_WORDS; w = strtok_r(NULL, " \t", &state))
                words[n++] = w;
        words[n] = NULL;
        if (n > 0)
                (void) execvp(words[0], words);
}

static _Noreturn void pager_run(const char *command, bool secure, bool is_explicit) {
        const char *less = getenv("SYSTEMD_LESS"), *charset = getenv("SYSTEMD_LESSCHARSET");

        (void) signal(SIGPIPE, SIG_DFL); /* ignored by main(), and that would be inherited */
        (void) setenv("LESS", less ?: LESS_DEFAULT, true);
        if (charset)
                (void) setenv("LESSCHARSET", charset, true);
        if (secure)
                (void) setenv("LESSSECURE", "1", true);
        /* Ctrl-C belongs to the pager; it dies when ovlfinctl does. */
        (void) prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (command && (!secure || is_explicit || is_less(command)))
                exec_words(command);
        exec_words("less");
        if (!secure || is_explicit)
                exec_words("more");
        exec_words("cat");
        _exit(127);
}

pid_t pager_open(void) {
        const char *command = first_set("SYSTEMD_PAGER", "PAGER");
        bool secure, is_explicit;
        int fds[2];
        pid_t pid;

        if (command && (*command == '\0' || strcmp(command, "cat") == 0))
                return 0;
        secure = is_secure(&is_explicit);
        if (pipe2(fds, O_CLOEXEC) < 0)
                return 0;
        (void) fflush(stdout);
        pid = fork();
        if (pid == 0) {
                (void) dup2(fds[0], STDIN_FILENO);
                pager_run(command, secure, is_explicit);
        }
        if (pid > 0)
                (void) dup2(fds[1], STDOUT_FILENO);
        (void) fd_close(fds[0]);
        (void) fd_close(fds[1]);
        return pid > 0 ? pid : 0;
}

void pager_close(pid_t pid) {
        int status;

        (void) fclose(stdout);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
                ;
}
