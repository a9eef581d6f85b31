/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/standing.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/proc-scan.h"

typedef struct Search {
        const char *prefix, *component;
        Standing *found;
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
        if (!proc_read_link(dfd, name, s->target))
                return false;
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

static void count(Search *s, const ProcTask *t) {
        char command[PROC_COMMAND_SIZE];
        size_t used = strlen(s->found->who);

        if (s->found->n++ >= STANDING_NAMED)
                return;
        proc_read_command(t->process_fd, command);
        (void) snprintf(
                s->found->who + used, sizeof(s->found->who) - used, "%s%d (%s, %s)", used ? ", " : "",
                (int) t->process, command[0] ? command : "?", s->kind);
}

static int visit_task(const ProcTask *t, void *userdata) {
        Search *s = userdata;

        s->kind = NULL;
        if (t->has_own_fs)
                visit_links(s, t->fd);
        if (!s->kind && t->has_own_files)
                visit_fds(s, t->fd);
        if (!s->kind)
                return 0;
        count(s, t);
        return 1;
}

int standing_find(const char *prefix, const char *component, Standing *ret) {
        Search s = { .prefix = prefix, .component = component, .found = ret };

        *ret = (Standing){ 0 };
        return proc_tasks_foreach(/* proc= */ NULL, visit_task, &s);
}
