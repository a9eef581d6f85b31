/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/proc-scan.h"

#include <fcntl.h>
#include <linux/kcmp.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/fs-util.h"

typedef struct Scan {
        proc_task_func func;
        void *userdata;
        char own_program[PATH_MAX];
        ProcTask task;
        int result; /* of the last func */
} Scan;

bool proc_read_link(int dfd, const char *name, char buffer[static PATH_MAX]) {
        ssize_t n = readlinkat(dfd, name, buffer, PATH_MAX - 1);

        buffer[n > 0 ? n : 0] = '\0';
        return n > 0;
}

void proc_unescape(char *s) {
        char *to = s;

        for (; *s; s++) {
                unsigned c;

                if (s[0] == '\\' && sscanf(s + 1, "%3o", &c) == 1 && strspn(s + 1, "01234567") >= 3) {
                        *to++ = (char) c;
                        s += 3;
                } else
                        *to++ = *s;
        }
        *to = '\0';
}

void proc_read_command(int process_fd, char buffer[static PROC_COMMAND_SIZE]) {
        _cleanup_free_ char *text = NULL;
        size_t n;

        buffer[0] = '\0';
        if (file_read(process_fd, "comm", PROC_COMMAND_SIZE, &text, &n) < 0)
                return;
        if (n > 0 && text[n - 1] == '\n')
                text[n - 1] = '\0';
        for (char *p = text; *p; p++)
                if ((unsigned char) *p < ' ' || *p == 0x7f)
                        *p = '?';
        (void) snprintf(buffer, PROC_COMMAND_SIZE, "%s", text);
}

pid_t proc_pid_from_name(const char *name) {
        char *end;
        long v;

        if (name[0] < '1' || name[0] > '9')
                return 0;
        errno = 0;
        v = strtol(name, &end, 10);
        return errno == 0 && *end == '\0' && v <= INT_MAX ? (pid_t) v : 0;
}

int proc_lines_foreach(int dfd, const char *name, proc_line_func func, void *userdata) {
        _cleanup_close_ int fd = openat(dfd, name, O_RDONLY | O_CLOEXEC);
        _cleanup_fclose_ FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;
        _cleanup_free_ char *line = NULL;
        size_t size = 0;
        ssize_t n;

        if (!f)
                return -errno;
        (void) TAKE_FD(fd);
        while (errno = 0, (n = getline(&line, &size, f)) > 0) {
                int r;

                if (line[n - 1] == '\n')
                        line[n - 1] = '\0';
                r = func(line, userdata);
                if (r < 0)
                        return r;
        }
        return errno == ENOMEM ? -ENOMEM : 0; /* of a process that ends, any other error is the end */
}

static void own_program(char buffer[static PATH_MAX]) {
        (void) proc_read_link(AT_FDCWD, "/proc/self/exe", buffer);
}

static bool runs(int process_fd, const char *program) {
        char target[PATH_MAX];

        return proc_read_link(process_fd, "exe", target) && strcmp(target, program) == 0;
}

bool proc_is_own_kind(int process_fd) {
        char program[PATH_MAX];

        own_program(program);
        return runs(process_fd, program);
}

/* Threads nearly always share what the first one has; where the kernel cannot tell (no CONFIG_KCMP), look.
 */
static bool shares(const ProcTask *t, int what) {
        return syscall(SYS_kcmp, t->process, t->thread, what, 0, 0) == 0;
}

static int visit_thread(int dfd, const char *name, unsigned char type, void *userdata) {
        _cleanup_close_ int fd = openat(dfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        Scan *s = userdata;
        ProcTask *t = &s->task;
        bool is_first;

        t->thread = proc_pid_from_name(name);
        if (fd < 0 || t->thread == 0)
                return 0; /* it has ended */
        is_first = t->thread == t->process;
        t->fd = fd;
        t->has_own_fs = is_first || !shares(t, KCMP_FS);
        t->has_own_files = is_first || !shares(t, KCMP_FILES);
        if (!t->has_own_fs && !t->has_own_files)
                return 0;
        s->result = s->func(t, s->userdata);
        return s->result != 0 ? -ECANCELED : 0;
}

static int visit_process(int dfd, const char *name, unsigned char type, void *userdata) {
        _cleanup_close_ int fd = -EBADF, tasks_fd = -EBADF;
        Scan *s = userdata;

        s->task.process = proc_pid_from_name(name);
        if (s->task.process == 0 || s->task.process == getpid())
                return 0;
        fd = openat(dfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || runs(fd, s->own_program))
                return 0;
        tasks_fd = openat(fd, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (tasks_fd < 0)
                return 0;
        s->task.process_fd = fd;
        s->result = 0;
        (void) dir_foreach(tasks_fd, visit_thread, s);
        return s->result < 0 ? s->result : 0;
}

int proc_tasks_foreach(const char *proc, proc_task_func func, void *userdata) {
        _cleanup_close_ int fd = open(proc ?: "/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        Scan s = { .func = func, .userdata = userdata };

        if (fd < 0)
                return -errno;
        own_program(s.own_program);
        return dir_foreach(fd, visit_process, &s);
}
