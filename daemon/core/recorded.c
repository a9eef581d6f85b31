/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/recorded.h"

#include <string.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/layer.h"
#include "core/staging.h"

typedef struct Walk {
        const Site *site;
        const Records *records;
        const char *path;
        bool children_first;
        recorded_func func;
        void *userdata;
} Walk;

/* 1: it is at or below the path, and answers by itself. */
static int find_place(const Walk *w, const Node *n, char **ret_path, int *ret_upper_fd) {
        _cleanup_free_ char *path = NULL, *lower = NULL;
        _cleanup_close_ int fd = -EBADF;
        bool in_upper;
        int r;

        if (!n->new_handle || !n->lower || records_find(w->records, n->new_handle) != n)
                return 0;
        fd = file_handle_open(w->site->upper_fd, n->new_handle, &path);
        if (fd < 0)
                return fd == -ESTALE || fd == -ENOENT || fd == -EXDEV ? 0 : fd;
        if (is_staging_name(path) || !path_startswith(path, w->path))
                return 0;
        r = upper_lower_path(w->site->upper_fd, path, &lower, &in_upper);
        if (r < 0 || lower || !in_upper)
                return errno_is_gone(r) ? 0 : r;
        *ret_upper_fd = open_dir_beneath(w->site->upper_fd, path);
        if (*ret_upper_fd < 0)
                return errno_is_gone(*ret_upper_fd) ? 0 : *ret_upper_fd;
        *ret_path = TAKE_PTR(path);
        return 1;
}

static int visit(const Walk *w, const Node *n) {
        _cleanup_close_ int upper_fd = -EBADF;
        _cleanup_free_ char *path = NULL;
        int r = find_place(w, n, &path, &upper_fd);

        return r <= 0 ? r : w->func(n, path, upper_fd, w->userdata);
}

static int visit_tree(const Tree *t, void *userdata) {
        const Walk *w = userdata;
        Node **nodes = NULL;
        size_t n;
        int r = tree_list((Tree *) t, &nodes, &n);

        for (size_t i = 0; r >= 0 && i < n; i++)
                r = visit(w, nodes[w->children_first ? n - 1 - i : i]);
        free(nodes);
        return r;
}

int recorded_foreach(
        const Site *site,
        const Records *records,
        const char *path,
        bool children_first,
        recorded_func func,
        void *userdata) {
        Walk w = { .site = site,
                   .records = records,
                   .path = path,
                   .children_first = children_first,
                   .func = func,
                   .userdata = userdata };

        return records_foreach(records, visit_tree, &w);
}

typedef struct Best {
        const char *lower, *known, *identity;
        size_t length;
} Best;

static int compare_identity(const Tree *t, void *userdata) {
        const char *lower = t->root->lower ?: "";
        Best *b = userdata;
        size_t n = 0;

        while (lower[n] && lower[n] == b->lower[n])
                n++;
        if (t->lower_identity && (!b->identity || n > b->length))
                *b = (Best){ .lower = b->lower, .known = lower, .identity = t->lower_identity, .length = n };
        return 0;
}

const char *records_identity_for(const Records *records, const char *lower, const char **ret_known) {
        Best b = { .lower = lower, .known = "" };

        (void) records_foreach(records, compare_identity, &b);
        *ret_known = b.known;
        return b.identity;
}
