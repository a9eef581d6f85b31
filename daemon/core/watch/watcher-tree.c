/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The directories a watcher knows: a tree of names, found by parent and name or by watch, and one array
 * with parents first, which is the order of walks. It makes no system call but inotify_rm_watch(). A node
 * that is dropped stays in the array until watch_nodes_compact(), so that a walk may drop what it passes. */
#include <limits.h>
#include <string.h>

#include "core/watch/watcher-internal.h"

/* A name within a directory: as it stands in a node. */
typedef struct Key {
        WatchNode *parent;
        char name[NAME_MAX + 1];
} Key;

static size_t key_size(const char *name) {
        return sizeof(WatchNode *) + strlen(name);
}

WatchNode *watch_node_find(const Watcher *w, WatchNode *parent, const char *name) {
        Key k = { .parent = parent };
        WatchNode *n;

        if (strlen(name) > NAME_MAX)
                return NULL;
        strcpy(k.name, name);
        HASH_FIND(by_name, w->by_name, &k, key_size(name), n);
        return n;
}

WatchNode *watch_node_find_wd(const Watcher *w, int wd) {
        WatchNode *n;

        HASH_FIND(by_wd, w->by_wd, &wd, sizeof(wd), n);
        return n;
}

static int append(Watcher *w, WatchNode *n) {
        if (w->n_nodes >= w->n_room) {
                size_t room = w->n_room > 0 ? w->n_room * 2 : 256;
                WatchNode **grown = reallocarray(w->nodes, room, sizeof(WatchNode *));

                if (!grown)
                        return -ENOMEM;
                w->nodes = grown;
                w->n_room = room;
        }
        w->nodes[w->n_nodes++] = n;
        return 0;
}

static int node_new(Watcher *w, WatchNode *parent, const char *name, GlobState states, WatchNode **ret) {
        WatchNode *n = malloc(sizeof(WatchNode) + strlen(name) + 1);
        int r;

        if (!n)
                return -ENOMEM;
        *n = (WatchNode){ .parent = parent, .states = states, .wd = -1, .is_new = true };
        strcpy(n->name, name);
        r = append(w, n);
        if (r < 0) {
                free(n);
                return r;
        }
        HASH_ADD(by_name, w->by_name, parent, key_size(name), n);
        if (parent) {
                n->next = parent->children;
                parent->children = n;
        }
        *ret = n;
        return 0;
}

static bool is_excluded(const Watcher *w, const WatchNode *parent, const char *name) {
        char path[PATH_MAX];
        size_t used;

        if (w->exclude.n == 0)
                return false;
        if (parent && watch_node_path(parent, path) < 0)
                return true;
        used = parent ? strlen(path) : 0;
        if (used + strlen(name) + 2 > sizeof(path))
                return true;
        (void) sprintf(path + used, "%s%s", used > 0 ? "/" : "", name);
        return globs_match_within(&w->exclude, path);
}

int watch_node_get(Watcher *w, WatchNode *parent, const char *name, GlobState states, WatchNode **ret) {
        WatchNode *n = watch_node_find(w, parent, name);

        *ret = n;
        if (!n)
                return is_excluded(w, parent, name) ? 0 : node_new(w, parent, name, states, ret);
        if ((n->states | states) != n->states) { /* reached by another way, a symlink */
                n->states |= states;
                if (n->wd >= 0) /* it may have to tell of more now */
                        (void) inotify_rm_watch(w->inotify_fd, n->wd);
                watch_node_set_wd(w, n, -1);
                n->was_watched_this_rotation = false;
                n->is_new = true;
                w->want_walk = true;
        }
        return 0;
}

int watch_node_make_path(Watcher *w, const char *path, GlobState states) {
        WatchNode *n = w->nodes[0];
        char name[NAME_MAX + 1];
        int r;

        while (n && *path) {
                size_t k = strcspn(path, "/");
                bool is_last = path[k] == '\0';

                if (k > NAME_MAX)
                        return 0;
                memcpy(name, path, k);
                name[k] = '\0';
                r = watch_node_get(w, n, name, is_last ? states : 0, &n);
                if (r < 0)
                        return r;
                path += k + !is_last;
        }
        return 0;
}

WatchNode *watch_node_nearest(const Watcher *w, const char *path, bool *ret_is_above) {
        WatchNode *n = w->nodes[0];
        char name[NAME_MAX + 1];

        while (*path) {
                size_t k = strcspn(path, "/");
                WatchNode *child;

                if (k > NAME_MAX)
                        break;
                memcpy(name, path, k);
                name[k] = '\0';
                child = watch_node_find(w, n, name);
                if (!child)
                        break;
                n = child;
                path += k + (path[k] == '/');
        }
        *ret_is_above = *path != '\0';
        return n;
}

int watch_node_path(const WatchNode *n, char ret[PATH_MAX]) {
        char *p = ret + PATH_MAX - 1;

        *p = '\0';
        for (; n->parent; n = n->parent) {
                size_t k = strlen(n->name);

                if ((size_t) (p - ret) < k + 1)
                        return -ENAMETOOLONG;
                if (*p != '\0')
                        *--p = '/';
                p -= k;
                memcpy(p, n->name, k);
        }
        memmove(ret, p, strlen(p) + 1);
        return 0;
}

void watch_node_set_wd(Watcher *w, WatchNode *n, int wd) {
        if (n->wd == wd)
                return;
        if (n->wd >= 0) {
                HASH_DELETE(by_wd, w->by_wd, n);
                w->n_watches--;
        }
        n->wd = wd;
        if (wd < 0)
                return;
        HASH_ADD(by_wd, w->by_wd, wd, sizeof(int), n);
        w->n_watches++;
}

static void drop_one(Watcher *w, WatchNode *n) {
        if (n->wd >= 0)
                (void) inotify_rm_watch(w->inotify_fd, n->wd);
        watch_node_set_wd(w, n, -1);
        HASH_DELETE(by_name, w->by_name, n);
        n->is_gone = true;
        watch_node_discount(n);
        n->opens = watch_opens_free(n->opens);
        w->n_gone++;
}

static void drop_all(Watcher *w, WatchNode *n) {
        for (WatchNode *c = n->children; c; c = c->next)
                drop_all(w, c);
        drop_one(w, n);
}

void watch_node_drop(Watcher *w, WatchNode *n) {
        if (n->is_gone || !n->parent)
                return;
        for (WatchNode **p = &n->parent->children; *p; p = &(*p)->next)
                if (*p == n) {
                        *p = n->next;
                        break;
                }
        drop_all(w, n);
}

void watch_node_discount(WatchNode *n) {
        n->n_opens = n->n_counted = n->n_listed = 0;
}

void watch_node_count(Watcher *w, WatchNode *n, const char *name) {
        if (name[0] == '\0')
                n->n_listed++;
        else {
                n->n_opens++;
                n->n_counted +=
                        watch_opens_count(&n->opens, name, w->n_nodes, w->now_usec, w->config->window_usec);
        }
        n->warmth++;
        if (n->is_used)
                return;
        n->is_used = true;
        n->next_used = NULL;
        *w->used_end = n;
        w->used_end = &n->next_used;
        for (WatchNode *p = n->parent; p && !p->is_near; p = p->parent)
                p->is_near = true;
}

static void forget_used(Watcher *w) {
        WatchNode **p = &w->used;

        while (*p)
                if ((*p)->is_gone)
                        *p = (*p)->next_used;
                else
                        p = &(*p)->next_used;
        w->used_end = p;
}

void watch_nodes_compact(Watcher *w) {
        size_t n = 0;

        if (w->n_gone == 0)
                return;
        forget_used(w);
        for (size_t i = 0; i < w->n_nodes; i++)
                if (w->nodes[i]->is_gone)
                        free(w->nodes[i]);
                else
                        w->nodes[n++] = w->nodes[i];
        w->n_nodes = w->cursor = n;
        w->n_gone = 0;
}

void watch_nodes_free(Watcher *w) {
        HASH_CLEAR(by_name, w->by_name);
        HASH_CLEAR(by_wd, w->by_wd);
        for (size_t i = 0; i < w->n_nodes; i++) {
                (void) watch_opens_free(w->nodes[i]->opens);
                free(w->nodes[i]);
        }
        free(w->nodes);
}
