/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/record/recorded.h"

#include <string.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/upper/layer.h"
#include "core/upper/names.h"

typedef struct Place {
        const Node *node;
        char *path;
} Place;

typedef struct Walk {
        int layer_fd; /* of the upper layer's root */
        const Records *records;
        const char *path;
        recorded_func func;
        void *userdata;
        Place *places;
        size_t n_places;
} Walk;

/* 1: it is at or below the path, and answers by itself. */
static int find_place(const Walk *w, const Node *n, char **ret_path, int *ret_upper_fd) {
        _cleanup_free_ char *path = NULL, *lower = NULL;
        _cleanup_close_ int fd = -EBADF;
        bool in_upper;
        int r;

        if (!n->new_handle || !n->lower || records_find(w->records, n->new_handle) != n)
                return 0;
        fd = file_handle_open(w->layer_fd, n->new_handle, &path);
        if (fd < 0)
                return fd == -ESTALE || fd == -ENOENT || fd == -EXDEV ? 0 : fd;
        if (is_staging_name(path) || !path_startswith(path, w->path))
                return 0;
        r = upper_lower_path(w->layer_fd, path, &lower, &in_upper);
        if (r < 0 || lower || !in_upper)
                return errno_is_gone(r) ? 0 : r;
        *ret_upper_fd = open_dir_beneath(w->layer_fd, path);
        if (*ret_upper_fd < 0)
                return errno_is_gone(*ret_upper_fd) ? 0 : *ret_upper_fd;
        *ret_path = TAKE_PTR(path);
        return 1;
}

/* Without the descriptor: there may be many. */
static int list_node(const Node *n, Walk *w) {
        _cleanup_close_ int upper_fd = -EBADF;
        _cleanup_free_ char *path = NULL;
        int r = find_place(w, n, &path, &upper_fd);

        if (r <= 0)
                return r;
        if (!ARRAY_GROW(w->places, w->n_places))
                return -ENOMEM;
        w->places[w->n_places++] = (Place){ .node = n, .path = TAKE_PTR(path) };
        return 0;
}

static int list_tree(const Tree *t, void *userdata) {
        Node **nodes = NULL;
        size_t n;
        int r = tree_list((Tree *) t, &nodes, &n);

        for (size_t i = 0; r >= 0 && i < n; i++)
                r = list_node(nodes[i], userdata);
        free(nodes);
        return r;
}

/* A directory sorts before what stands below it. */
static int compare_places(const void *a, const void *b) {
        return strcmp(((const Place *) a)->path, ((const Place *) b)->path);
}

/* Where it is by now: what was done to others may have moved or removed it. */
static int visit(const Walk *w, const Node *n) {
        _cleanup_close_ int upper_fd = -EBADF;
        _cleanup_free_ char *path = NULL;
        int r = find_place(w, n, &path, &upper_fd);

        return r <= 0 ? r : w->func(n, path, upper_fd, w->userdata);
}

int recorded_foreach(
        int layer_fd,
        const Records *records,
        const char *path,
        bool children_first,
        recorded_func func,
        void *userdata) {
        Walk w = {
                .layer_fd = layer_fd, .records = records, .path = path, .func = func, .userdata = userdata
        };
        int r = records_foreach(records, list_tree, &w);

        if (w.n_places > 0)
                qsort(w.places, w.n_places, sizeof(Place), compare_places);
        for (size_t i = 0; r >= 0 && i < w.n_places; i++)
                r = visit(&w, w.places[children_first ? w.n_places - 1 - i : i].node);
        for (size_t i = 0; i < w.n_places; i++)
                free(w.places[i].path);
        free(w.places);
        return r;
}

typedef struct Best {
        const char *lower, *known, *identity;
        size_t length;
} Best;

static int compare_identity(Node *n, void *userdata) {
        const char *lower = n->lower ?: "";
        Best *b = userdata;
        size_t k = 0;

        while (lower[k] && lower[k] == b->lower[k])
                k++;
        if (n->lower_identity && (!b->identity || k > b->length))
                *b = (Best){ .lower = b->lower, .known = lower, .identity = n->lower_identity, .length = k };
        return 0;
}

static int compare_identities(const Tree *t, void *userdata) {
        return tree_foreach((Tree *) t, compare_identity, userdata);
}

const char *records_identity_for(const Records *records, const char *lower, const char **ret_known) {
        Best b = { .lower = lower, .known = "" };

        (void) records_foreach(records, compare_identities, &b);
        *ret_known = b.known;
        return b.identity;
}
