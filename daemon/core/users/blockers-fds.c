/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Descriptors that lead to an overlay: by the mount id that fdinfo tells, never by asking the file
 * (docs/overlayfs.md 10.2). Locks, watches and bound sockets of a process are found on the same way.
 * Whether something blocks a swap is only noted; nothing is waited for here. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/users/blockers-internal.h"

typedef struct FdInfo {
        Search *search;
        const char *link;
        int mount_id; /* -1: not told */
        unsigned long inode;
        unsigned flags;
        unsigned long long position;
        bool has_lock;
        int error;
} FdInfo;

static int add_watch(const FdInfo *i, const char *line) {
        const char *sdev = strstr(line, " sdev:"), *ino = strstr(line, " ino:"),
                   *mount = strstr(line, " mnt_id:");
        Search *s = i->search;
        char *root = NULL;

        if (mount) {
                if (!places_find(&s->places, (int) strtol(mount + strlen(" mnt_id:"), NULL, 16)))
                        return 0;
        } else if (!sdev || strtoul(sdev + strlen(" sdev:"), NULL, 16) != kernel_device(s->overlay->device))
                return 0;
        if (!ino) { /* a mark of the mount, or of the whole file system */
                root = strdup("");
                if (!root)
                        return -ENOMEM;
        }
        return search_add(s, BLOCKER_WATCH, true, root, ino ? strtoul(ino + strlen(" ino:"), NULL, 16) : 0);
}

/* Source: proc(5), fs/proc/fd.c, fs/notify/fdinfo.c */
static int visit_info(const char *line, void *userdata) {
        FdInfo *i = userdata;

        if (strncmp(line, "inotify ", 8) == 0 || strncmp(line, "fanotify ", 9) == 0) {
                int r = add_watch(i, line);

                return r < 0 ? r : 0;
        }
        if (strncmp(line, "lock:", 5) == 0)
                i->has_lock = true;
        else if (
                sscanf(line, "pos: %llu", &i->position) != 1 && sscanf(line, "flags: %o", &i->flags) != 1 &&
                sscanf(line, "mnt_id: %d", &i->mount_id) != 1)
                (void) sscanf(line, "ino: %lu", &i->inode);
        return 0;
}

static BlockerKind kind_of(const FdInfo *i, const char *fd_path) {
        unsigned access = i->flags & O_ACCMODE;
        mode_t type = S_IFREG;

        if (i->flags & (O_PATH | O_DIRECTORY))
                return BLOCKER_OPEN;
        /* A FIFO has no position. */
        if (i->position == 0)
                (void) patience_stat(&i->search->patience, fd_path, &type, /* ret_mount_id= */ NULL);
        if (type == S_IFIFO)
                return BLOCKER_FIFO;
        return type == S_IFREG && (access == O_WRONLY || access == O_RDWR) ? BLOCKER_OPEN_WRITE
                                                                           : BLOCKER_OPEN;
}

static int remember_inode(Search *s, ino_t inode, const char *path) {
        if (!ARRAY_GROW(s->inodes, s->n_inodes))
                return -ENOMEM;
        s->inodes[s->n_inodes] = (KnownInode){ .inode = inode, .path = strdup(path) };
        if (!s->inodes[s->n_inodes].path)
                return -ENOMEM;
        s->n_inodes++;
        return 0;
}

static int remember_lock(Search *s, ino_t inode) {
        if (!ARRAY_GROW(s->locked, s->n_locked))
                return -ENOMEM;
        s->locked[s->n_locked++] = inode;
        return 0;
}

static int add_lock(Search *s, const FdInfo *i, const char *path) {
        char *copy = strdup(path);
        int r;

        if (!copy)
                return -ENOMEM;
        r = remember_lock(s, i->inode);
        if (r < 0) {
                free(copy);
                return r;
        }
        return search_add(s, BLOCKER_LOCK, true, copy, /* inode= */ 0);
}

/* The link may not begin with the mount point: where the reader's root does not lead to the mount. */
static int file_path(const Place *place, const char *link, char **ret) {
        *ret = place_relative(place, link) ?: strdup(path_startswith(link, "/") ?: link);
        return *ret ? 0 : -ENOMEM;
}

static int add_file(const FdInfo *i, const Place *place, int fds_fd, const char *name) {
        _cleanup_free_ char *path = NULL;
        char fd_path[PROC_FD_MAX];
        BlockerKind kind;
        int r = file_path(place, i->link, &path);

        if (r >= 0)
                r = remember_inode(i->search, i->inode, path);
        if (r >= 0 && i->has_lock)
                r = add_lock(i->search, i, path);
        if (r < 0)
                return r;
        proc_fd_path(fd_path, fds_fd, name);
        kind = kind_of(i, fd_path);
        return search_add(
                i->search, kind, kind == BLOCKER_OPEN_WRITE || kind == BLOCKER_FIFO, TAKE_PTR(path),
                /* inode= */ 0);
}

/* What bind() was given, as a path from the root of the namespace. */
static int socket_path(const Search *s, int task_fd, const char *bound, char **ret) {
        char directory[PATH_MAX];
        char *path;

        if (bound[0] == '/')
                (void) snprintf(directory, sizeof(directory), "%s", s->root);
        else
                (void) proc_read_link(task_fd, "cwd", directory);
        path = path_join(directory, path_startswith(bound, "/") ?: bound);
        if (!path)
                return -ENOMEM;
        if (path_simplify(path) < 0) {
                free(path);
                return 0;
        }
        *ret = path;
        return 1;
}

static int visit_socket(Search *s, int task_fd, const char *link) {
        _cleanup_free_ char *path = NULL, *relative = NULL;
        BoundSocket *bound;
        unsigned long inode;
        int r;

        if (sscanf(link, "socket:[%lu]", &inode) != 1)
                return 0;
        bound = sockets_find(&s->sockets, inode);
        if (!bound)
                return 0;
        bound->is_seen = true;
        r = socket_path(s, task_fd, bound->path, &path);
        if (r > 0)
                r = search_resolve(s, path, &relative);
        if (r < 0 || (r == 0 && !bound->is_on_overlay))
                return r;
        return search_add(s, BLOCKER_SOCKET, true, TAKE_PTR(relative), /* inode= */ 0);
}

typedef struct Walk {
        Search *search;
        int task_fd;
        int result;
} Walk;

static int visit_file(Search *s, int task_fd, int fds_fd, const char *name, const char *link) {
        FdInfo info = { .search = s, .link = link, .mount_id = -1 };
        char info_name[32];
        const Place *place;
        int r;

        (void) snprintf(info_name, sizeof(info_name), "fdinfo/%s", name);
        r = proc_lines_foreach(task_fd, info_name, visit_info, &info);
        if (r == -ENOMEM)
                return r;
        place = r >= 0 && link[0] == '/' ? places_find(&s->places, info.mount_id) : NULL;
        return place ? add_file(&info, place, fds_fd, name) : 0;
}

static int visit_fd(int dfd, const char *name, unsigned char type, void *userdata) {
        Walk *w = userdata;
        char link[PATH_MAX];
        int r = 0;

        if (!proc_read_link(dfd, name, link))
                return 0;
        if (strncmp(link, "socket:[", 8) == 0)
                r = visit_socket(w->search, w->task_fd, link);
        else if (
                link[0] == '/' || strcmp(link, "anon_inode:inotify") == 0 ||
                strcmp(link, "anon_inode:[fanotify]") == 0)
                r = visit_file(w->search, w->task_fd, dfd, name, link);
        w->result = r < 0 ? r : 0;
        return w->result;
}

int search_fds(Search *s, const ProcTask *t) {
        _cleanup_close_ int fd = openat(t->fd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        Walk w = { .search = s, .task_fd = t->fd };

        if (fd < 0)
                return 0; /* it has ended */
        (void) dir_foreach(fd, visit_fd, &w);
        return w.result;
}
