/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One visit of a directory: watched, then listed; what it finds is appended, what it misses is dropped.
 * When to visit which is watcher.c's. No descriptor of a directory outlives a visit. When watches are
 * short, those that are used least give theirs away. */
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/mount/mount-clone.h"
#include "core/upper/names.h"
#include "core/watch/watcher-internal.h"

#define WATCH_NAMES (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF)
#define LINKS_MAX 8  /* one after the other */
#define SHARE_PART 4 /* of all watches, what changes hands with a walk at most */

int watcher_open_root(Watcher *w) {
        _cleanup_close_ int fd = mount_clone_open(w->config->overlay->mount_point, O_PATH);
        struct statx st;

        if (fd < 0)
                return -ENODEV;
        if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0 ||
            makedev(st.stx_dev_major, st.stx_dev_minor) != w->config->overlay->device)
                return -ENODEV;
        w->root_fd = TAKE_FD(fd);
        return 0;
}

/* As users reach it, symlinks included, but not out of the overlay. */
static int open_through_links(int root_fd, const char *path) {
        struct open_how how = {
                .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                .resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS,
        };
        long fd = syscall(SYS_openat2, root_fd, path, &how, sizeof(how));

        return fd < 0 ? -errno : (int) fd;
}

/* A symlink of the directory that leads to no directory. */
typedef struct FileLink {
        UT_hash_handle hh;
        char name[];
} FileLink;

typedef struct Visit {
        Watcher *watcher;
        WatchNode *node;
        const char *path;
        FileLink *file_links; /* that were read: each one costs the lower a request */
} Visit;

static void visit_done(Visit *v) {
        FileLink *l, *next;

        HASH_ITER(hh, v->file_links, l, next) {
                HASH_DEL(v->file_links, l);
                free(l);
        }
}

static bool is_file_link(const Visit *v, const char *name) {
        FileLink *l = NULL;

        HASH_FIND_STR(v->file_links, name, l);
        return l != NULL;
}

static int note_file_link(Visit *v, const char *name) {
        size_t size = strlen(name) + 1;
        FileLink *l = calloc(1, sizeof(FileLink) + size);

        if (!l)
                return -ENOMEM;
        memcpy(l->name, name, size);
        HASH_ADD_STR(v->file_links, name, l);
        return 0;
}

/* Whether name in the directory is, or leads by names in it, to something that is no directory: 1, else 0,
 * which may also mean that it does not tell. Libraries have such links by the hundred. */
static int leads_to_file(Visit *v, int dfd, const char *name, unsigned depth) {
        char target[NAME_MAX + 1];
        struct statx st;
        ssize_t n;
        int r;

        if (strchr(name, '/') || depth >= LINKS_MAX ||
            statx(dfd, name, AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0)
                return 0;
        if (!S_ISLNK(st.stx_mode))
                return !S_ISDIR(st.stx_mode);
        if (is_file_link(v, name))
                return 1;
        n = readlinkat(dfd, name, target, sizeof(target) - 1);
        if (n <= 0 || n == sizeof(target) - 1)
                return 0;
        target[n] = '\0';
        r = leads_to_file(v, dfd, target, depth + 1);
        if (r > 0)
                r = note_file_link(v, name);
        return r < 0 ? r : is_file_link(v, name);
}

/* What a symlink leads to counts as if it stood here, under its own path. */
static int follow_link(Visit *v, int dfd, const char *name, GlobState states) {
        const char *mount_point = v->watcher->config->overlay->mount_point, *rest;
        _cleanup_free_ char *joined = NULL, *real = NULL;
        _cleanup_close_ int fd = -EBADF;
        char target[PATH_MAX];
        ssize_t n;
        int r;

        if (is_file_link(v, name))
                return 0;
        n = readlinkat(dfd, name, target, sizeof(target) - 1);
        if (n <= 0)
                return 0;
        target[n] = '\0';
        r = leads_to_file(v, dfd, target, /* depth= */ 0);
        if (r != 0)
                return r < 0 ? r : note_file_link(v, name);
        rest = target[0] == '/' ? path_startswith(target, mount_point) : target;
        if (!rest)
                return 0;
        joined = path_join(target[0] == '/' ? "" : v->path, rest);
        if (!joined)
                return -ENOMEM;
        fd = open_through_links(v->watcher->root_fd, joined);
        if (fd < 0 || fd_path(fd, &real) < 0)
                return 0;                  /* it leads nowhere, or out of the overlay */
        rest = path_startswith(real, "/"); /* the mount that we look through stands nowhere */
        return rest && rest[0] ? watch_node_make_path(v->watcher, rest, states) : 0;
}

static int visit_entry(int dfd, const char *name, unsigned char type, void *userdata) {
        Visit *v = userdata;
        Watcher *w = v->watcher;
        GlobState states;
        WatchNode *child;
        int r;

        if ((type != DT_DIR && type != DT_LNK) || is_staging_name(name))
                return 0;
        states = globs_step(&w->want, v->node->states, name);
        if (states == 0)
                return 0;
        if (type == DT_LNK)
                return follow_link(v, dfd, name, states);
        r = watch_node_get(w, v->node, name, states, &child);
        if (r >= 0 && child)
                child->visit = w->n_visits;
        return r;
}

/* Directories that only a symlink leads to are found by the symlink. */
static void drop_missing(Watcher *w, WatchNode *n) {
        for (WatchNode *c = n->children, *next; c; c = next) {
                next = c->next;
                if (c->visit != w->n_visits && c->states != 0 &&
                    globs_step(&w->want, n->states, c->name) != 0)
                        watch_node_drop(w, c);
        }
}

static int list(Visit *v, int fd) {
        int r;

        v->watcher->n_visits++;
        r = dir_foreach(fd, visit_entry, v); /* opens it once, see Watcher.visiting */
        if (r >= 0)
                drop_missing(v->watcher, v->node);
        return r;
}

static int watch(Watcher *w, WatchNode *n, int fd) {
        uint32_t mask = IN_ONLYDIR | IN_EXCL_UNLINK | WATCH_NAMES;
        WatchNode *other;
        int wd;

        if (n->wd >= 0 || w->n_watches >= w->n_limit || (w->is_tight && n->was_watched_this_rotation))
                return 0;
        wd = inotify_watch_fd(w->inotify_fd, fd, mask | (watch_node_matches(w, n) ? IN_OPEN : 0));
        if (wd == -ENOSPC) {
                w->is_kernel_limit = true;
                w->n_limit = w->n_watches;
                return 0;
        }
        if (wd < 0)
                return wd;
        other = watch_node_find_wd(w, wd); /* it was moved here, and its old name is still known */
        if (other)
                watch_node_set_wd(w, other, -1);
        watch_node_set_wd(w, n, wd);
        n->was_watched_this_rotation = true;
        return 0;
}

static bool is_gone(int r) {
        return errno_is_gone(r) || r == -ESTALE;
}

int watcher_visit(Watcher *w, WatchNode *n) {
        _cleanup_close_ int fd = -EBADF;
        char path[PATH_MAX];
        int r;

        if (n->states == 0)
                return 0;
        r = watch_node_path(n, path);
        if (r < 0)
                return 0;
        n->is_paused = watcher_is_paused(w, path);
        if (n->is_paused) {
                n->is_new = true; /* later */
                return 0;
        }
        fd = open_beneath(w->root_fd, path, O_PATH | O_DIRECTORY | O_NOFOLLOW);
        r = fd < 0 ? fd : watch(w, n, fd);
        if (r >= 0 && globs_may_descend(&w->want, n->states)) {
                Visit v = { .watcher = w, .node = n, .path = path };

                w->visiting = n;
                r = list(&v, fd);
                visit_done(&v);
        }
        if (is_gone(r)) {
                watch_node_drop(w, n);
                return 0;
        }
        if (r == -ENOMEM)
                return r;
        n->is_new = r < 0; /* what cannot be read now is tried again with the next walk */
        return 0;
}

/* Directories that wait for a watch and have not had one since all the others had. */
static size_t count_waiting(Watcher *w) {
        size_t n_without = 0, n_waiting = 0;

        for (size_t i = 0; i < w->n_nodes; i++) {
                const WatchNode *n = w->nodes[i];
                bool wants = n->wd < 0 && n->states != 0 && !n->is_paused;

                n_without += wants;
                n_waiting += wants && !n->was_watched_this_rotation;
        }
        for (size_t i = 0; n_waiting == 0 && n_without > 0 && i < w->n_nodes; i++)
                w->nodes[i]->was_watched_this_rotation = false;
        return n_waiting > 0 ? n_waiting : n_without;
}

static int compare_warmth(const void *a, const void *b) {
        const WatchNode *const *x = a, *const *y = b;

        return (*x)->warmth < (*y)->warmth ? -1 : (*x)->warmth > (*y)->warmth;
}

static void take_from_coldest(Watcher *w, size_t most) {
        _cleanup_free_ WatchNode **l = calloc(w->n_watches + 1, sizeof(WatchNode *));
        size_t n = 0;

        for (size_t i = 0; l && i < w->n_nodes && n < w->n_watches; i++)
                if (w->nodes[i]->wd >= 0 && w->nodes[i]->parent && !w->nodes[i]->is_near)
                        l[n++] = w->nodes[i];
        if (l)
                qsort(l, n, sizeof(WatchNode *), compare_warmth);
        for (size_t i = 0; i < n && i < most; i++) {
                (void) inotify_rm_watch(w->inotify_fd, l[i]->wd);
                watch_node_set_wd(w, l[i], -1);
                l[i]->was_watched_this_rotation = true;
        }
}

void watcher_share_watches(Watcher *w) {
        size_t n_waiting = count_waiting(w), most = w->n_limit / SHARE_PART + 1;

        w->is_tight = n_waiting > 0;
        if (n_waiting > 0 && w->n_watches >= w->n_limit)
                take_from_coldest(w, most < n_waiting ? most : n_waiting);
}
