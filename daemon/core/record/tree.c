/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/record/tree.h"

#include <string.h>
#include <utlist.h>

#include "base/lock.h"
#include "base/path-util.h"

struct Known {
        UT_hash_handle hh;
        char handle[];
};

static Node *node_new(Tree *t) {
        Node *n = calloc(1, sizeof(Node));

        if (!n)
                return NULL;
        n->tree = t;
        n->watch = -1;
        n->is_attributes_dirty = true;
        (void) pthread_mutex_lock(&t->lock);
        t->n_nodes++;
        (void) pthread_mutex_unlock(&t->lock);
        return n;
}

static void unlist_dirty(Node *n) {
        if (n->is_dirty)
                DL_DELETE2(n->tree->dirty[n->dirty_level], n, dirty_prev, dirty_next);
        n->is_dirty = false;
}

static Node *node_free(Node *n) {
        Entry *e, *next;

        if (!n)
                return NULL;
        HASH_ITER(hh, n->entries, e, next) {
                HASH_DEL(n->entries, e);
                node_free(e->dir);
                free(e);
        }
        node_set_watch(n, -1);
        node_set_old_inode(n, 0);
        (void) pthread_mutex_lock(&n->tree->lock);
        unlist_dirty(n);
        if (n->has_gone)
                DL_DELETE2(n->tree->gone, n, gone_prev, gone_next);
        n->tree->n_nodes--;
        (void) pthread_mutex_unlock(&n->tree->lock);
        changes_done(&n->changes);
        path_list_done(&n->erased);
        free(n->lower);
        free(n->lower_identity);
        free(n->old_handle);
        free(n->new_handle);
        free(n->blocked);
        free(n);
        return NULL;
}

int tree_new(const char *path, const char *id, bool is_undo, Tree **ret) {
        _cleanup_(tree_freep) Tree *t = calloc(1, sizeof(Tree));

        if (!t)
                return -ENOMEM;
        (void) pthread_mutex_init(&t->lock, NULL);
        t->is_undo = is_undo;
        t->path = strdup(path);
        t->id = strdup(id);
        t->root = node_new(t);
        if (!t->path || !t->id || !t->root)
                return -ENOMEM;
        *ret = TAKE_PTR(t);
        return 0;
}

Tree *tree_free(Tree *t) {
        Known *known, *next;

        if (!t)
                return NULL;
        for (Node *n; (n = t->detached);) {
                t->detached = n->parent;
                node_free(n);
        }
        node_free(t->root);
        (void) pthread_mutex_destroy(&t->lock);
        HASH_ITER(hh, t->known, known, next) {
                HASH_DEL(t->known, known);
                free(known);
        }
        free(t->dirty);
        free(t->path);
        free(t->upper);
        free(t->id);
        free(t);
        return NULL;
}

static int entry_become(Node *n, Entry *e, unsigned char type) {
        Node *dir = NULL;

        if (type == DT_DIR) {
                dir = node_new(n->tree);
                if (!dir)
                        return -ENOMEM;
                dir->parent = n;
                dir->entry = e;
        }
        e->type = type;
        e->dir = dir;
        return 0;
}

/* What stood there is gone. The name is not forgotten if it is one of the lower's, which an undo would show
 * again. */
static void entry_vacate(Node *n, Entry *e) {
        if (e->written != 0 && path_list_add(&n->erased, e->name) < 0)
                n->tree->file.size = 0; /* written anew as a whole */
        e->written = 0;
        if (e->is_local) {
                HASH_DEL(n->entries, e);
                free(e);
                return;
        }
        e->dir = NULL;
        e->inode = e->base = e->xattrs = e->ctime = e->identity = 0;
        e->type = DT_WHT;
        e->is_placed = e->is_seen = e->is_gone = false;
        e->aside = 0;
}

int node_add(Node *n, const char *name, unsigned char type, Entry **ret) {
        size_t length = strlen(name);
        _cleanup_free_ Entry *e = NULL;
        int r;

        if (node_find(n, name))
                return -EEXIST;
        e = calloc(1, sizeof(Entry) + length + 1);
        if (!e)
                return -ENOMEM;
        memcpy(e->name, name, length + 1);
        r = entry_become(n, e, type);
        if (r < 0)
                return r;
        HASH_ADD_KEYPTR(hh, n->entries, e->name, length, e);
        if (ret)
                *ret = e;
        e = NULL;
        return 0;
}

int node_add_late(Node *n, const char *name, unsigned char type, Entry **ret) {
        Entry *e = node_find(n, name);
        int r;

        if (e)
                r = e->type == DT_WHT || (!e->is_placed && !e->dir) ? entry_become(n, e, type) : -EEXIST;
        else {
                r = node_add(n, name, type, &e);
                if (r >= 0)
                        e->is_local = true;
        }
        if (r >= 0)
                *ret = e;
        return r;
}

Entry *node_find(const Node *n, const char *name) {
        Entry *e;

        HASH_FIND_STR(n->entries, name, e);
        return e;
}

void entry_drop(Node *n, Entry *e) {
        node_free(e->dir);
        entry_vacate(n, e);
}

uint64_t entry_ctime(const Entry *e) {
        return e->ctime == CTIME_BEING_REMOVED ? 0 : e->ctime; /* a try that was killed */
}

void entry_forget(Node *n, Entry *e) {
        e->is_local = true;
        entry_drop(n, e);
}

static size_t node_path_length(const Node *n) {
        size_t length = 0;

        for (; n->entry; n = n->parent)
                length += strlen(n->entry->name) + 1;
        return length;
}

Node *node_reach(Node *n, const char *path, const char **rest) {
        char name[NAME_MAX + 1];

        while (*path) {
                size_t k = strcspn(path, "/");
                const Entry *e;

                if (k > NAME_MAX)
                        break;
                memcpy(name, path, k);
                name[k] = '\0';
                e = node_find(n, name);
                if (!e || !e->dir)
                        break;
                n = e->dir;
                path += k + (path[k] == '/');
        }
        *rest = path;
        return n;
}

const Node *node_find_identity(const Node *n) {
        while (!n->lower_identity && n->parent)
                n = n->parent;
        return n;
}

char *node_path(const Node *n) {
        size_t length;
        char *p;

        if (n != n->tree->root && !n->entry)
                return NULL;
        length = node_path_length(n);
        p = malloc(length + 1);
        if (!p)
                return NULL;
        if (length == 0)
                p[0] = '\0';
        for (char *end = p + length; n->entry; n = n->parent) {
                size_t k = strlen(n->entry->name);

                end -= k + 1;
                memcpy(end, n->entry->name, k);
                end[k] = end + k + 1 == p + length ? '\0' : '/';
        }
        return p;
}

static unsigned node_depth(const Node *n) {
        unsigned depth = 0;

        for (; n->entry; n = n->parent)
                depth++;
        return depth;
}

/* The caller has the lock. Without memory for the list it is found when the next one is noted. */
static void list_dirty(Node *n) {
        unsigned level = node_depth(n);
        Tree *t = n->tree;

        if (n->is_dirty)
                return;
        if (level >= t->n_dirty_levels) {
                Node **grown = reallocarray(t->dirty, level + 16, sizeof(Node *));

                if (!grown)
                        return;
                memset(grown + t->n_dirty_levels, 0, (level + 16 - t->n_dirty_levels) * sizeof(Node *));
                t->dirty = grown;
                t->n_dirty_levels = level + 16;
        }
        n->dirty_level = level;
        n->is_dirty = true;
        DL_APPEND2(t->dirty[level], n, dirty_prev, dirty_next);
}

void node_recheck(Node *n) {
        LOCKED(&n->tree->lock);
        n->changes.all = true;
        list_dirty(n);
}

/* Comparing a name costs about as much as comparing ten by a listing, and most directories are small. */
#define CHANGED_NAMES_MAX 32

/* Whether it could be noted by itself. */
static bool add_change(Changes *c, const char *name) {
        char **grown, *copy;

        for (unsigned i = 0; i < c->n; i++)
                if (strcmp(c->names[i], name) == 0)
                        return true;
        grown = c->n < CHANGED_NAMES_MAX ? reallocarray(c->names, c->n + 1, sizeof(char *)) : NULL;
        copy = grown ? strdup(name) : NULL;
        c->names = grown ?: c->names;
        if (copy)
                c->names[c->n++] = copy;
        return copy;
}

void node_note_change(Node *n, const char *name) {
        Entry *e = node_find(n, name);

        if (e)
                e->n_tries = 0; /* that it was not as listed has a reason now */
        if (n->changes.all)
                return;
        if (!add_change(&n->changes, name)) {
                node_recheck(n);
                return;
        }
        LOCKED(&n->tree->lock);
        list_dirty(n);
}

/* What is detached comes back, or goes, by itself. */
static bool is_attached(const Node *n) {
        while (n->entry)
                n = n->parent;
        return n == n->tree->root;
}

Node *tree_next_dirty(Tree *t) {
        for (unsigned level = 0; level < t->n_dirty_levels; level++)
                while (t->dirty[level]) {
                        Node *n = t->dirty[level];

                        unlist_dirty(n);
                        if (is_attached(n) && node_has_changes(n))
                                return n;
                }
        return NULL;
}

void node_note_gone(Node *n, Entry *e) {
        e->is_gone = true;
        if (n->has_gone)
                return;
        n->has_gone = true;
        DL_APPEND2(n->tree->gone, n, gone_prev, gone_next);
}

Node *tree_next_gone(Tree *t) {
        Node *n = t->gone;

        if (n) {
                DL_DELETE2(t->gone, n, gone_prev, gone_next);
                n->has_gone = false;
        }
        return n;
}

Changes node_take_changes(Node *n) {
        Changes c = n->changes;

        n->changes = (Changes){ 0 };
        return c;
}

void changes_done(Changes *c) {
        for (unsigned i = 0; i < c->n; i++)
                free(c->names[i]);
        free(c->names);
        *c = (Changes){ 0 };
}

void node_set_watch(Node *n, int watch) {
        Tree *t = n->tree;
        Node *other;

        LOCKED(&t->lock);
        if (n->watch >= 0)
                HASH_DELETE(hh_watch, t->by_watch, n);
        n->watch = watch;
        if (watch >= 0) {
                /* The kernel gives one descriptor an inode: who had it stands for a place the directory has
                 * left. */
                HASH_FIND(hh_watch, t->by_watch, &watch, sizeof(watch), other);
                if (other) {
                        HASH_DELETE(hh_watch, t->by_watch, other);
                        other->watch = -1;
                }
                HASH_ADD(hh_watch, t->by_watch, watch, sizeof(watch), n);
        }
}

void node_set_old_inode(Node *n, uint64_t inode) {
        Tree *t = n->tree;
        Node *other;

        LOCKED(&t->lock);
        if (n->old_inode != 0)
                HASH_DELETE(hh_old, t->by_old, n);
        n->old_inode = inode;
        if (inode != 0) {
                HASH_FIND(hh_old, t->by_old, &inode, sizeof(inode), other);
                if (other) {
                        HASH_DELETE(hh_old, t->by_old, other);
                        other->old_inode = 0;
                }
                HASH_ADD(hh_old, t->by_old, old_inode, sizeof(n->old_inode), n);
        }
}

Node *tree_find_watch(Tree *t, int watch) {
        Node *n;

        HASH_FIND(hh_watch, t->by_watch, &watch, sizeof(watch), n);
        return n;
}

Node *tree_find_old(Tree *t, uint64_t inode) {
        Node *n;

        HASH_FIND(hh_old, t->by_old, &inode, sizeof(inode), n);
        return n;
}

static void node_leave(Node *n) {
        Tree *t = n->tree;

        if (n->entry) {
                entry_vacate(n->parent, n->entry);
                n->entry = NULL;
        } else
                for (Node **p = &t->detached; *p; p = &(*p)->parent)
                        if (*p == n) {
                                *p = n->parent;
                                break;
                        }
        n->parent = NULL;
}

void node_detach(Node *n) {
        node_leave(n);
        n->parent = n->tree->detached;
        n->tree->detached = n;
}

int tree_note_known(Tree *t, const char *handle) {
        Known *k;

        if (tree_is_known(t, handle))
                return 0;
        k = malloc(sizeof(Known) + strlen(handle) + 1);
        if (!k)
                return -ENOMEM;
        (void) strcpy(k->handle, handle);
        HASH_ADD_KEYPTR(hh, t->known, k->handle, strlen(handle), k);
        return 0;
}

bool tree_is_known(const Tree *t, const char *handle) {
        Known *k;

        HASH_FIND_STR(t->known, handle, k);
        return k;
}

int node_foreach(Node *n, node_func func, void *userdata) {
        Entry *e, *next;
        int r = func(n, userdata);

        HASH_ITER(hh, n->entries, e, next) {
                if (r < 0)
                        return r;
                if (e->dir)
                        r = node_foreach(e->dir, func, userdata);
        }
        return r < 0 ? r : 0;
}

static int note_attached(Node *n, void *userdata) {
        n->written = 0; /* as what it was in its old place */
        if (node_has_changes(n)) {
                (void) pthread_mutex_lock(&n->tree->lock);
                list_dirty(n);
                (void) pthread_mutex_unlock(&n->tree->lock);
        }
        return 0;
}

int node_attach(Node *n, Node *parent, const char *name) {
        Entry *e;
        int r = node_add_late(parent, name, DT_WHT, &e); /* the node it is to have is there */

        if (r < 0)
                return r;
        node_leave(n);
        e->type = DT_DIR;
        e->dir = n;
        e->inode = n->old_inode;
        e->is_placed = true;
        n->parent = parent;
        n->entry = e;
        return node_foreach(n, note_attached, NULL);
}

int tree_foreach(Tree *t, node_func func, void *userdata) {
        return node_foreach(t->root, func, userdata);
}

typedef struct NodeArray {
        Node **items;
        size_t n, room;
} NodeArray;

static int collect(Node *n, void *userdata) {
        NodeArray *a = userdata;

        if (a->n == a->room) {
                Node **grown = reallocarray(a->items, a->room = 2 * a->room + 64, sizeof(Node *));

                if (!grown)
                        return -ENOMEM;
                a->items = grown;
        }
        a->items[a->n++] = n;
        return 0;
}

int tree_list(Tree *t, Node ***ret, size_t *ret_n) {
        NodeArray a = { 0 };
        int r = tree_foreach(t, collect, &a);

        if (r < 0) {
                free(a.items);
                return r;
        }
        *ret = a.items;
        *ret_n = a.n;
        return 0;
}

void tree_drop_detached(Tree *t, Node *n) {
        node_leave(n);
        node_free(n);
}

static int resume_deferred(Node *n, void *userdata) {
        bool *any = userdata;

        if (n->is_deferred)
                node_recheck(n);
        n->is_deferred = false;
        *any |= node_has_changes(n) || n->is_attributes_dirty || n->is_times_dirty;
        return 0;
}

bool tree_resume_deferred(Tree *t) {
        bool any = false;

        (void) tree_foreach(t, resume_deferred, &any);
        return any;
}
