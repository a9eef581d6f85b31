/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/users/blockers.h"

#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "core/users/blockers-internal.h"

static void blocker_done(Blocker *b) {
        free(b->path);
        free(b->where);
}

void blockers_done(Blockers *b) {
        for (size_t i = 0; i < b->n; i++)
                blocker_done(b->items + i);
        free(b->items);
        *b = (Blockers){ 0 };
}

static void search_done(Search *s) {
        places_done(&s->places);
        sockets_done(&s->sockets);
        for (size_t i = 0; i < s->n; i++)
                blocker_done(&s->items[i].blocker);
        free(s->items);
        search_forget_inodes(s);
        free(s->locked);
}

/* Processes. */

/* A mount that was detached has no mount point: paths on it begin at its root, and say nothing about where
 * they lead. */
static int resolve_detached(Search *s, const ProcTask *t, const char *name, const char *link, char **ret) {
        const Place *place;
        char path[PATH_MAX];
        int id = -1;

        (void) snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", t->fd, name);
        if (patience_stat(&s->patience, path, /* ret_type= */ NULL, &id) < 0)
                return 0;
        place = places_find(&s->places, id);
        if (!place || place->namespace[0] != '\0')
                return 0;
        *ret = place_relative(place, link);
        return *ret ? 1 : -ENOMEM;
}

/* cwd and root tell no mount id, but a path. */
static int search_link(Search *s, const ProcTask *t, const char *name, BlockerKind kind) {
        char link[PATH_MAX], *path;
        int r;

        if (!proc_read_link(t->fd, name, link))
                return 0;
        r = search_resolve(s, link, &path);
        if (r == 0 && s->places.is_detached)
                r = resolve_detached(s, t, name, link, &path);
        return r <= 0 ? r : search_add(s, kind, false, path, /* inode= */ 0);
}

/* Mappings: "7f40-7f41 rw-s 00000000 00:2c 7      /ovl/d/a". */
static int visit_mapping(Search *s, char *line) {
        unsigned device_major, device_minor;
        char *path = NULL;
        bool is_ours, is_written;
        char mode[5];
        int n = 0, r;

        if (sscanf(line, "%*s %4s %*s %x:%x %*u %n", mode, &device_major, &device_minor, &n) < 3 || n == 0 ||
            line[n] != '/')
                return 0;
        is_ours = makedev(device_major, device_minor) == s->overlay->device;
        /* Kernels before 6.8 tell the device of the layer, but the path on the overlay
         * (docs/overlayfs.md 10.2). */
        r = search_resolve(s, line + n, &path);
        if (r < 0 || (r == 0 && !is_ours))
                return r;
        if (r == 0 && !(path = strdup(line + n + 1)))
                return -ENOMEM;
        is_written = mode[1] == 'w' && mode[3] == 's';
        return search_add(s, BLOCKER_MMAP, is_written, path, /* inode= */ 0);
}

static int add_unreadable(Search *s) {
        return search_add(s, BLOCKER_MMAP, true, /* path= */ NULL, /* inode= */ 0);
}

static int search_maps(Search *s) {
        _cleanup_free_ char *text = NULL;
        char path[PATH_MAX], *state, *line;
        int r;

        (void) snprintf(path, sizeof(path), "%s/%d/maps", s->proc, (int) s->process);
        r = patience_read(&s->patience, s->process, path, &text);
        if (r == -ETIMEDOUT)
                return add_unreadable(s);
        if (r < 0)
                return r == -ENOMEM ? r : 0; /* it has ended */
        for (line = strtok_r(text, "\n", &state); line; line = strtok_r(NULL, "\n", &state)) {
                r = visit_mapping(s, line);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Runs once for each process: its threads come one after the other. */
static int visit_process(Search *s, const ProcTask *t) {
        int r;

        search_begin(s, t->process);
        r = sockets_load(&s->sockets, t->process_fd, kernel_device(s->overlay->device));
        return r < 0 ? r : search_maps(s);
}

static void name_watches(Search *s) {
        for (size_t i = s->first; i < s->n; i++)
                for (size_t k = 0; k < s->n_inodes && !s->items[i].blocker.path; k++)
                        if (s->items[i].inode != 0 && s->items[i].inode == s->inodes[k].inode)
                                s->items[i].blocker.path = strdup(s->inodes[k].path);
}

static int visit_task(const ProcTask *t, void *userdata) {
        Search *s = userdata;
        int r = 0;

        if (t->process != s->process)
                r = visit_process(s, t);
        if (r >= 0 && t->has_own_fs)
                r = search_link(s, t, "cwd", BLOCKER_CWD);
        if (r >= 0 && t->has_own_fs)
                r = search_link(s, t, "root", BLOCKER_ROOT);
        if (r >= 0 && t->has_own_files)
                r = search_fds(s, t);
        name_watches(s);
        return r < 0 ? r : 0;
}

/* Locks that no descriptor in /proc accounts for. */

static bool is_accounted_for(const Search *s, ino_t inode) {
        for (size_t i = 0; i < s->n_locked; i++)
                if (s->locked[i] == inode)
                        return true;
        return false;
}

static bool is_ours(const Search *s, pid_t pid) {
        _cleanup_close_ int fd = -EBADF;
        char path[PATH_MAX];

        (void) snprintf(path, sizeof(path), "%s/%d", s->proc, (int) pid);
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd >= 0 && proc_is_own_kind(fd);
}

/* "1: FLOCK  ADVISORY  WRITE 22820 00:2c:7 0 EOF"; those that wait for one are "1: -> FLOCK …". */
static int visit_lock(const char *line, void *userdata) {
        unsigned device_major, device_minor;
        Search *s = userdata;
        unsigned long inode;
        int pid, r;

        if (strstr(line, "->") ||
            sscanf(line, "%*d: %*s %*s %*s %d %x:%x:%lu", &pid, &device_major, &device_minor, &inode) != 4)
                return 0;
        if (makedev(device_major, device_minor) != s->overlay->device || is_accounted_for(s, inode) ||
            (pid > 0 && is_ours(s, pid)))
                return 0;
        search_begin(s, pid > 0 ? pid : 0);
        r = search_add(s, BLOCKER_LOCK, true, /* path= */ NULL, inode);
        return r < 0 ? r : 0;
}

static int search_lock_table(Search *s) {
        char path[PATH_MAX];
        int r;

        (void) snprintf(path, sizeof(path), "%s/locks", s->proc);
        r = proc_lines_foreach(AT_FDCWD, path, visit_lock, s);
        return r == -ENOMEM ? r : 0;
}

/* The result. */

static int compare(const void *a, const void *b) {
        const Blocker *x = a, *y = b;

        if (x->is_blocking != y->is_blocking)
                return x->is_blocking ? -1 : 1;
        if (x->pid != y->pid)
                return x->pid < y->pid ? -1 : 1;
        if (x->kind != y->kind)
                return x->kind < y->kind ? -1 : 1;
        return strcmp(x->path ?: "", y->path ?: "");
}

static int take_result(Search *s, Blockers *ret) {
        Blockers b = { .items = calloc(s->n + 1, sizeof(Blocker)) };

        if (!b.items)
                return -ENOMEM;
        for (size_t i = 0; i < s->n; i++) {
                b.items[b.n++] = s->items[i].blocker;
                b.n_blocking += s->items[i].blocker.is_blocking;
        }
        s->n = 0;
        qsort(b.items, b.n, sizeof(*b.items), compare);
        *ret = b;
        return 0;
}

int blockers_find(const Overlay *o, const char *proc, const char *below, Blockers *ret) {
        _cleanup_(search_done) Search s = {
                .overlay = o,
                .proc = proc ?: "/proc",
                .below = below,
                .patience = PATIENCE_INIT,
        };
        int r = places_load(o, s.proc, &s.places);

        if (r >= 0)
                r = search_mounts(&s);
        if (r >= 0 && !below)
                r = search_layers(&s);
        search_begin(&s, 0);
        if (r >= 0)
                r = proc_tasks_foreach(s.proc, visit_task, &s);
        if (r >= 0)
                r = search_sockets(&s);
        if (r >= 0)
                r = search_lock_table(&s);
        return r < 0 ? r : take_result(&s, ret);
}

/* "1234 (vim, open-write)", "99 (sh, mount at '/mnt')", "mount at '/mnt'". */
static int to_text(const Blocker *b, char *buffer, size_t size) {
        const char *kind = blocker_kind_to_string(b->kind), *at = b->where ? " at '" : "",
                   *end = b->where ? "'" : "";

        if (b->pid == 0)
                return snprintf(buffer, size, "%s%s%s%s", kind, at, b->where ?: "", end);
        return snprintf(
                buffer, size, "%d (%s, %s%s%s%s)", (int) b->pid, b->command[0] ? b->command : "?", kind, at,
                b->where ?: "", end);
}

void blockers_to_text(const Blockers *b, char buffer[static BLOCKERS_TEXT_SIZE]) {
        size_t used = 0, n = 0;

        buffer[0] = '\0';
        for (size_t i = 0; i < b->n_blocking; i++) {
                char text[BLOCKERS_TEXT_SIZE / 4];

                if (i > 0 && b->items[i].pid != 0 && b->items[i].pid == b->items[i - 1].pid)
                        continue; /* once is enough */
                if (n++ >= BLOCKERS_NAMED)
                        continue;
                (void) to_text(b->items + i, text, sizeof(text));
                used += (size_t) snprintf(
                        buffer + used, BLOCKERS_TEXT_SIZE - used, "%s%s", n > 1 ? ", " : "", text);
        }
        if (n > BLOCKERS_NAMED)
                (void) snprintf(
                        buffer + used, BLOCKERS_TEXT_SIZE - used, " and %zu more", n - BLOCKERS_NAMED);
}
