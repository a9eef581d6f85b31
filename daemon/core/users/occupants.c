/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/users/occupants.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/users/blockers-internal.h"

typedef struct Look {
        const Places *places; /* NULL: component says where */
        const char *path, *component;
        Writers *writers; /* NULL: everybody is asked for, unless locks_only */
        bool locks_only;
        pid_t process; /* whose mount namespace this is */
        char namespace[PATH_MAX];
        Occupants *found;
        bool stands;      /* the process that is looked at does */
        const char *kind; /* of the link by which it is one who is asked for, NULL as long as none is */
        char target[PATH_MAX];
} Look;

static bool has_component(const char *path, const char *component) {
        size_t n = strlen(component);

        for (const char *p = path; (p = strstr(p, component)); p++)
                if (p > path && p[-1] == '/' &&
                    (p[n] == '/' || p[n] == '\0' || p[n] == ' ')) /* " (deleted)" */
                        return true;
        return false;
}

/* The longest component is 16 hex digits, or a prefix with them: unique on the machine. */
static bool leads_there(Look *l, const ProcTask *t) {
        _cleanup_free_ char *path = NULL;

        if (!l->places)
                return has_component(l->target, l->component);
        if (l->process != t->process)
                (void) proc_read_link(t->process_fd, "ns/mnt", l->namespace);
        l->process = t->process;
        return places_resolve(l->places, l->namespace, l->target, &path) > 0 &&
                path_startswith(path, l->path);
}

static bool is_directory(int dfd, const char *name) {
        struct stat st;

        /* stat() of the link follows it into the kernel's file, not to a path: no lower is asked for a
         * directory that is open already. */
        return fstatat(dfd, name, &st, 0) >= 0 && S_ISDIR(st.st_mode);
}

static int find_lock(const char *line, void *userdata) {
        return strncmp(line, "lock:", 5) == 0 ? -EEXIST : 0;
}

/* flock(), POSIX, open file description: each belongs to a descriptor, or to all of a process that lead to
 * the directory. Source: show_fd_locks(). */
static bool is_locked(const ProcTask *t, const char *link) {
        char name[sizeof("fdinfo/") + NAME_MAX];

        (void) snprintf(name, sizeof(name), "fdinfo/%s", path_basename(link));
        return proc_lines_foreach(t->fd, name, find_lock, NULL) == -EEXIST;
}

static bool is_asked_for(Look *l, const ProcTask *t, const char *link, const char *kind) {
        if (l->locks_only)
                return false;
        return !l->writers || (strcmp(kind, "exe") != 0 && writers_include(l->writers, t, link));
}

/* link: from t->fd. */
static void look_at(Look *l, const ProcTask *t, const char *link, const char *kind) {
        bool is_fd = strcmp(kind, "fd") == 0;

        if (!proc_read_link(t->fd, link, l->target) || !leads_there(l, t))
                return;
        if (is_fd && !is_directory(t->fd, link))
                return;
        l->stands = true;
        if (is_fd && is_locked(t, link))
                l->kind = "lock";
        else if (is_asked_for(l, t, link, kind))
                l->kind = kind;
}

static void look_at_links(Look *l, const ProcTask *t) {
        static const char *const links[] = { "cwd", "root", "exe" };

        for (size_t i = 0; i < ELEMENTSOF(links) && !l->kind; i++)
                look_at(l, t, links[i], links[i]);
}

typedef struct Descriptors {
        Look *look;
        const ProcTask *task;
} Descriptors;

static int visit_fd(int dfd, const char *name, unsigned char type, void *userdata) {
        const Descriptors *d = userdata;
        char link[sizeof("fd/") + NAME_MAX];

        (void) snprintf(link, sizeof(link), "fd/%s", name);
        look_at(d->look, d->task, link, "fd");
        return d->look->kind ? -ECANCELED : 0;
}

static void look_at_fds(Look *l, const ProcTask *t) {
        _cleanup_close_ int fd = openat(t->fd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        Descriptors d = { .look = l, .task = t };

        if (fd >= 0)
                (void) dir_foreach(fd, visit_fd, &d);
}

static void count(Occupants *found, const ProcTask *t, const char *kind) {
        char command[PROC_COMMAND_SIZE];
        size_t used = strlen(found->who);

        if (found->n++ >= OCCUPANTS_NAMED)
                return;
        proc_read_command(t->process_fd, command);
        (void) snprintf(
                found->who + used, sizeof(found->who) - used, "%s%d (%s, %s)", used ? ", " : "",
                (int) t->process, command[0] ? command : "?", kind);
}

static int visit_task(const ProcTask *t, void *userdata) {
        Look *l = userdata;

        l->stands = false;
        l->kind = NULL;
        if (t->has_own_fs)
                look_at_links(l, t);
        if (!l->kind && t->has_own_files)
                look_at_fds(l, t);
        l->found->n_all += l->stands;
        if (!l->kind)
                return 0;
        l->found->n_locks += strcmp(l->kind, "lock") == 0;
        count(l->found, t, l->kind);
        return 1;
}

static int find_in(Look *l, const Overlay *o) {
        _cleanup_(places_done) Places places = { 0 };
        int r = places_load(o, "/proc", &places);

        *l->found = (Occupants){ 0 };
        l->places = &places;
        return r < 0 ? r : proc_tasks_foreach(/* proc= */ NULL, visit_task, l);
}

int occupants_find_in(const Overlay *o, const char *path, Writers *writers, Occupants *ret) {
        return find_in(&(Look){ .path = path, .writers = writers, .found = ret }, o);
}

int occupants_find_locks(const Overlay *o, const char *path, Occupants *ret) {
        return find_in(&(Look){ .path = path, .locks_only = true, .found = ret }, o);
}

int occupants_find(const char *component, Writers *writers, Occupants *ret) {
        Look l = { .component = component, .writers = writers, .found = ret };

        *ret = (Occupants){ 0 };
        return proc_tasks_foreach(/* proc= */ NULL, visit_task, &l);
}
