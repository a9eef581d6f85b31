/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What countfs knows of the source: a node per inode the kernel holds, with a descriptor, and per-directory
 * counts that outlive them. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "countfs.h"

Node *node_get(CountFs *fs, fuse_ino_t ino) {
        return ino == FUSE_ROOT_ID ? &fs->root : (Node *) (uintptr_t) ino;
}

static Node *node_free(Node *n) {
        if (!n)
                return NULL;
        fd_close(n->fd);
        free(n->path);
        free(n);
        return NULL;
}
DEFINE_CLEANUP(Node *, node_free);

DirStat *dir_stat_acquire(CountFs *fs, const char *path) {
        DirStat *s = NULL;

        HASH_FIND_STR(fs->stats, path, s);
        if (s)
                return s;
        s = calloc(1, sizeof(*s));
        if (!s)
                return NULL;
        s->path = strdup(path);
        if (!s->path) {
                free(s);
                return NULL;
        }
        HASH_ADD_KEYPTR(hh, fs->stats, s->path, strlen(s->path), s);
        return s;
}

static int
node_new(Node *parent, fuse_ino_t parent_ino, const char *name, Node **ret, struct stat *ret_stat) {
        _cleanup_(node_freep) Node *n = calloc(1, sizeof(*n));

        if (!n)
                return ENOMEM;
        n->parent = parent_ino;
        n->fd = openat(parent->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (n->fd < 0 || fstatat(n->fd, "", ret_stat, AT_EMPTY_PATH) < 0)
                return errno;
        if (asprintf(&n->path, "%s%s%s", parent->path, parent->path[0] ? "/" : "", name) < 0)
                return ENOMEM;
        n->mode = ret_stat->st_mode;
        n->key.dev = ret_stat->st_dev;
        n->key.ino = ret_stat->st_ino;
        *ret = TAKE_PTR(n);
        return 0;
}

/* node_lookup() - the node of a name, made when the kernel does not know its inode yet. Returns 0 or a
 * positive errno. */
int node_lookup(CountFs *fs, fuse_ino_t parent_ino, const char *name, struct fuse_entry_param *ret) {
        _cleanup_(node_freep) Node *n = NULL;
        Node *known = NULL;
        int r;

        r = node_new(node_get(fs, parent_ino), parent_ino, name, &n, &ret->attr);
        if (r != 0)
                return r;
        pthread_mutex_lock(&fs->lock);
        HASH_FIND(hh, fs->nodes, &n->key, sizeof(n->key), known);
        if (!known) {
                known = TAKE_PTR(n);
                if (S_ISDIR(known->mode))
                        known->stat = dir_stat_acquire(fs, known->path);
                HASH_ADD(hh, fs->nodes, key, sizeof(known->key), known);
        }
        known->n_lookups++;
        pthread_mutex_unlock(&fs->lock);
        ret->ino = (fuse_ino_t) (uintptr_t) known;
        ret->attr_timeout = ret->entry_timeout = atomic_load(&fs->timeout_sec);
        return 0;
}

int node_of_handle(CountFs *fs, fuse_ino_t ino, struct fuse_entry_param *ret) {
        Node *n = node_get(fs, ino);

        if (fstatat(n->fd, "", &ret->attr, AT_EMPTY_PATH) < 0)
                return errno;
        pthread_mutex_lock(&fs->lock);
        n->n_lookups++;
        pthread_mutex_unlock(&fs->lock);
        ret->ino = ino;
        ret->attr_timeout = ret->entry_timeout = atomic_load(&fs->timeout_sec);
        return 0;
}

void node_forget(CountFs *fs, fuse_ino_t ino, uint64_t n_lookups) {
        _cleanup_(node_freep) Node *dead = NULL;
        Node *n = node_get(fs, ino);

        if (n == &fs->root)
                return;
        pthread_mutex_lock(&fs->lock);
        n->n_lookups -= n_lookups;
        if (n->n_lookups == 0 && !fs->can_open_handles) {
                HASH_DEL(fs->nodes, n);
                dead = n;
        }
        pthread_mutex_unlock(&fs->lock);
}

typedef struct Cached {
        fuse_ino_t ino;
        fuse_ino_t parent;
        char *name;
} Cached;

/* countfs_invalidate() - drop what the kernel has cached
 * The kernel is told without the lock held, because it may ask for something while it drops. */
size_t countfs_invalidate(CountFs *fs) {
        size_t n = 0, i = 0;
        Node *node, *next;
        Cached *all;

        pthread_mutex_lock(&fs->lock);
        all = calloc(HASH_COUNT(fs->nodes) + 1, sizeof(*all));
        HASH_ITER(hh, fs->nodes, node, next) {
                const char *slash = strrchr(node->path, '/');

                if (all)
                        all[n++] = (Cached){ (fuse_ino_t) (uintptr_t) node, node->parent,
                                             strdup(slash ? slash + 1 : node->path) };
        }
        pthread_mutex_unlock(&fs->lock);
        for (i = 0; i < n; i++) {
                (void) fuse_lowlevel_notify_inval_inode(fs->session, all[i].ino, 0, 0);
                if (all[i].name)
                        (void) fuse_lowlevel_notify_inval_entry(
                                fs->session, all[i].parent, all[i].name, strlen(all[i].name));
                free(all[i].name);
        }
        (void) fuse_lowlevel_notify_inval_inode(fs->session, FUSE_ROOT_ID, 0, 0);
        free(all);
        return n;
}
