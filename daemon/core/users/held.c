/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Nothing is opened or changed here: /proc is read, and paths in old trees are led back to the directory by
 * its record. */
#include "core/users/held.h"

#include <stdlib.h>
#include <string.h>

#include "base/path-util.h"
#include "core/context/staging.h"
#include "core/record/manifest.h"
#include "core/upper/names.h"
#include "core/users/blockers.h"

#define DELETED " (deleted)" /* what the kernel adds to paths that lead nowhere any more */

void held_trees_done(HeldTrees *t) {
        for (size_t i = 0; i < t->n; i++)
                (void) tree_free(t->items[i]);
        free(t->items);
        *t = (HeldTrees){ .records_fd = t->records_fd };
}

/* ".ovlfind/ID/tree/sub/file (deleted)": the id, and "sub/file". Of the quarantine the names say nothing. */
static bool parse(const char *path, char id[static STAGING_ID_LENGTH + 1], char **ret_rest) {
        const char *p = path_startswith(path, STAGING_NAME), *rest;
        size_t n;

        if (!p || strcspn(p, "/") != STAGING_ID_LENGTH)
                return false;
        (void) snprintf(id, STAGING_ID_LENGTH + 1, "%s", p);
        p += STAGING_ID_LENGTH;
        if (!is_staging_id(id) || strncmp(p, "/" STAGING_TREE, strlen("/" STAGING_TREE)) != 0)
                return false;
        rest = p + strlen("/" STAGING_TREE);
        n = strlen(rest);
        if (n >= strlen(DELETED) && strcmp(rest + n - strlen(DELETED), DELETED) == 0)
                n -= strlen(DELETED);
        if (n > 0 && rest[0] != '/')
                return false;
        *ret_rest = n > 0 ? strndup(rest + 1, n - 1) : strdup("");
        return *ret_rest != NULL;
}

/* NULL: there is no record with this id (any more). */
static Tree *find_tree(HeldTrees *t, const char *id) {
        Tree *tree;

        for (size_t i = 0; i < t->n; i++)
                if (strcmp(t->items[i]->id, id) == 0)
                        return t->items[i];
        if (!ARRAY_GROW(t->items, t->n))
                return NULL;
        if (manifest_read(t->records_fd, id, &tree) < 0)
                return NULL;
        return t->items[t->n++] = tree;
}

int held_resolve(HeldTrees *t, const char *blocker_path, char **ret_path, char **ret_lower) {
        _cleanup_free_ char *rest = NULL, *path = NULL;
        char id[STAGING_ID_LENGTH + 1];
        const char *unknown;
        const Node *n;
        Tree *tree;

        if (!parse(blocker_path, id, &rest))
                return 0;
        tree = find_tree(t, id);
        if (!tree)
                return 0;
        for (n = node_reach(tree->root, rest, &unknown); n && !n->lower; n = n->parent)
                ; /* one that was made here: those above it are in memory, too */
        path = path_join(tree->path, rest);
        *ret_lower = n ? strdup(n->lower) : NULL;
        if (!path || (n && !*ret_lower))
                return -ENOMEM;
        *ret_path = TAKE_PTR(path);
        return n != NULL;
}

typedef struct Holders {
        const Context *context;
        const char *lower;         /* NULL: of anything */
        const char *sockets_below; /* also who may hold it by the name of a socket there; NULL: not */
        HeldTrees trees;
        Blockers all, found; /* the latter's items are the former's */
} Holders;

static void holders_done(Holders *h) {
        held_trees_done(&h->trees);
        free(h->found.items);
        blockers_done(&h->all);
}

/* 1: it does. */
static int is_in_the_way(Holders *h, const Blocker *b) {
        _cleanup_free_ char *path = NULL, *lower = NULL;
        int r;

        if (!b->path || !path_startswith(b->path, STAGING_NAME))
                return h->sockets_below && b->kind == BLOCKER_SOCKET &&
                        (!b->path || path_startswith(b->path, h->sockets_below));
        if (!h->lower)
                return 1;
        r = held_resolve(&h->trees, b->path, &path, &lower);
        return r <= 0 ? r : path_startswith(lower, h->lower) != NULL;
}

static int compare_pid(const void *a, const void *b) {
        const Blocker *x = a, *y = b;

        return x->pid < y->pid ? -1 : x->pid > y->pid;
}

static int find_holders(Holders *h) {
        Blockers *f = &h->found;
        const char *below = h->sockets_below ? NULL : STAGING_NAME;
        int r = blockers_find(h->context->overlay, /* proc= */ NULL, below, &h->all);

        if (r < 0)
                return r;
        f->items = calloc(h->all.n + 1, sizeof(Blocker));
        if (!f->items)
                return -ENOMEM;
        for (size_t i = 0; i < h->all.n; i++) {
                r = is_in_the_way(h, h->all.items + i);
                if (r < 0)
                        return r;
                if (r > 0)
                        f->items[f->n++] = h->all.items[i];
        }
        f->n_blocking = f->n;
        qsort(f->items, f->n, sizeof(Blocker), compare_pid);
        return 0;
}

int held_check(const Context *context, const char *path, const char *lower, Failure *reterr) {
        _cleanup_(holders_done) Holders h = { .context = context,
                                              .lower = lower,
                                              .trees = { .records_fd = context->records_fd } };
        const char *point = context->overlay->mount_point;
        char who[BLOCKERS_TEXT_SIZE];
        int r = find_holders(&h);

        if (r < 0)
                return failure_set_errno(
                        reterr, r, "cannot find out who holds files of '%s/%s'", point, path);
        if (h.found.n == 0)
                return 0;
        blockers_to_text(&h.found, who);
        return failure_set(
                reterr, FAILURE_BUSY, FAILURE_ERROR_HELD,
                "processes hold open what '%s/%s' held before it was finalized: %s; it can be undone when "
                "they have let go of it or ended ('ovlfinctl blockers %s/%s' tells of what)",
                point, path, who, point, path);
}

int held_explain(const Context *context, const char *path, Failure *reterr) {
        _cleanup_(holders_done) Holders h = { .context = context,
                                              .sockets_below = path,
                                              .trees = { .records_fd = context->records_fd } };
        char who[BLOCKERS_TEXT_SIZE] = "";

        if (find_holders(&h) >= 0)
                blockers_to_text(&h.found, who);
        return failure_set(
                reterr, FAILURE_BUSY, EBUSY,
                "something still holds what '%s/%s' was before it was finalized, %s%s; try again when those "
                "who used it then have left",
                context->overlay->mount_point, path,
                who[0] ? "perhaps " : "nobody that /proc shows (a loop device on a file of it?)", who);
}
