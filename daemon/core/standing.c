/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/standing.h"

#include <ctype.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/fs-util.h"
#include "base/path-util.h"

typedef struct Search {
        const char *prefix, *component;
        Standing *found;
        pid_t process; /* being looked at */
        char own_program[PATH_MAX];
        const char *kind; /* of the link that hit, NULL as long as none did */
        char target[PATH_MAX];
} Search;

static bool has_component(const char *path, const char *component) {
        size_t n = strlen(component);

        for (const char *p = path; (p = strstr(p, component)); p++)
                if (p > path && p[-1] == '/' &&
                    (p[n] == '/' || p[n] == '\0' || p[n] == ' ')) /* " (deleted)" */
                        return true;
        return false;
}

/* The longest component is 16 hex digits, or a prefix with them: unique on the machine. */
static bool link_hits(Search *s, int dfd, const char *name) {
        ssize_t n = readlinkat(dfd, name, s->target, sizeof(s->target) - 1);

        if (n < 0)
                return false;
        s->target[n] = '\0';
        return s->prefix ? path_startswith(s->target, s->prefix) != NULL
                         : has_component(s->target, s->component);
}

static int visit_fd(int dfd, const char *name, unsigned char type, void *userdata) {
        Search *s = userdata;
        struct stat st;

        if (!link_hits(s, dfd, name))
                return 0;
        /* stat() of the link follows it into the kernel's file, not to a path: no lower is asked for a
         * directory that is open already. */
        if (fstatat(dfd, name, &st, 0) >= 0 && S_ISDIR(st.st_mode))
                s->kind = "fd";
        return s->kind ? -ECANCELED : 0;
}

/* Threads nearly always share what the leader has; where the kernel cannot tell (no CONFIG_KCMP), look. */
static bool shares(const Search *s, pid_t thread, int what) {
        return syscall(SYS_kcmp, s->process, thread, what, 0, 0) == 0;
}

static void visit_links(Search *s, int task_fd) {
        static const char *const links[] = { "cwd", "root", "exe" };

        for (size_t i = 0; i < ELEMENTSOF(links) && !s->kind; i++)
                if (link_hits(s, task_fd, links[i]))
                        s->kind = links[i];
}

static void visit_fds(Search *s, int task_fd) {
        _cleanup_close_ int fd = openat(task_fd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd >= 0)
                (void) dir_foreach(fd, visit_fd, s);
}

static int visit_thread(int dfd, const char *name, unsigned char type, void *userdata) {
        _cleanup_close_ int fd = openat(dfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        pid_t thread = (pid_t) strtol(name, NULL, 10);
        Search *s = userdata;

        if (fd < 0)
                return 0; /* it has ended */
        if (thread == s->process || !shares(s, thread, KCMP_FS))
                visit_links(s, fd);
        if (!s->kind && (thread == s->process || !shares(s, thread, KCMP_FILES)))
                visit_fds(s, fd);
        return s->kind ? -ECANCELED : 0;
}

static void count(Search *s, int process_fd, const char *pid) {
        _cleanup_free_ char *command = NULL;
        size_t used = strlen(s->found->who);

        if (s->found->n++ >= STANDING_NAMED)
                return;
        if (file_read(process_fd, "comm", 64, &command, NULL) < 0)
                command = NULL;
        if (command)
                command[strcspn(command, "\n")] = '\0';
        (void) snprintf(
                s->found->who + used, sizeof(s->found->who) - used, "%s%s (%s, %s)", used ? ", " : "", pid,
                command ?: "?", s->kind);
}

/* Other workers hold descriptors of trees; two that keep trees must not wait for each other. */
static bool is_own_kind(const Search *s, int process_fd) {
        char target[PATH_MAX];
        ssize_t n = readlinkat(process_fd, "exe", target, sizeof(target) - 1);

        if (n < 0)
                return false;
        target[n] = '\0';
        return strcmp(target, s->own_program) == 0;
}

static int visit_process(int dfd, const char *name, unsigned char type, void *userdata) {
        _cleanup_close_ int fd = -EBADF, tasks_fd = -EBADF;
        Search *s = userdata;

        if (!isdigit((unsigned char) name[0]) || strtol(name, NULL, 10) == getpid())
                return 0;
        fd = openat(dfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return 0; /* it has ended */
        if (is_own_kind(s, fd))
                return 0;
        s->kind = NULL;
        s->process = (pid_t) strtol(name, NULL, 10);
        tasks_fd = openat(fd, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (tasks_fd >= 0)
                (void) dir_foreach(tasks_fd, visit_thread, s);
        if (s->kind)
                count(s, fd, name);
        return 0;
}

int standing_find(const char *prefix, const char *component, Standing *ret) {
        Search s = { .prefix = prefix, .component = component, .found = ret };
        _cleanup_close_ int fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        ssize_t n;

        *ret = (Standing){ 0 };
        if (fd < 0)
                return -errno;
        n = readlink("/proc/self/exe", s.own_program, sizeof(s.own_program) - 1);
        s.own_program[n < 0 ? 0 : n] = '\0';
        return dir_foreach(fd, visit_process, &s);
}
