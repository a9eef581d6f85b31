/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/path-util.h"

#include <string.h>

char *path_join(const char *a, const char *b) {
        size_t n = strlen(a);
        char *p;

        if (n == 0 || b[0] == '\0')
                return strdup(n == 0 ? b : a);
        if (asprintf(&p, a[n - 1] == '/' ? "%s%s" : "%s/%s", a, b) < 0)
                return NULL;
        return p;
}

const char *path_startswith(const char *path, const char *prefix) {
        size_t n = strlen(prefix);

        while (n > 0 && prefix[n - 1] == '/')
                n--;
        if (strncmp(path, prefix, n) != 0)
                return NULL;
        path += n;
        if (n > 0 && path[0] != '/' && path[0] != '\0')
                return NULL;
        while (path[0] == '/')
                path++;
        return path;
}

int path_simplify(char *path) {
        bool absolute = path[0] == '/';
        char *in = path, *out = path + absolute;

        while (*in) {
                size_t n;

                in += strspn(in, "/");
                n = strcspn(in, "/");
                if (n == 0)
                        break;
                if (n == 2 && strncmp(in, "..", 2) == 0)
                        return -EINVAL;
                if (!(n == 1 && in[0] == '.')) {
                        if (out > path + absolute)
                                *out++ = '/';
                        memmove(out, in, n);
                        out += n;
                }
                in += n;
        }
        *out = '\0';
        return 0;
}

const char *path_basename(const char *path) {
        const char *slash = strrchr(path, '/');

        return slash ? slash + 1 : path;
}

char *path_dirname(const char *path) {
        const char *slash = strrchr(path, '/');

        return strndup(path, slash ? (size_t) (slash - path) : 0);
}

int path_list_add(PathList *l, const char *path) {
        char *copy = strdup(path);

        if (!copy || !ARRAY_GROW(l->items, l->n)) {
                free(copy);
                return -ENOMEM;
        }
        l->items[l->n++] = copy;
        return 0;
}

char *path_list_take(PathList *l) {
        return l->n > 0 ? l->items[--l->n] : NULL;
}

static int compare_paths(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

bool path_list_has(const PathList *l, const char *path) {
        return l->n > 0 && bsearch(&path, l->items, l->n, sizeof(char *), compare_paths);
}

void path_list_sort(PathList *l) {
        size_t kept = 0;

        if (l->n > 0)
                qsort(l->items, l->n, sizeof(char *), compare_paths);
        for (size_t i = 0; i < l->n; i++) {
                if (kept > 0 && strcmp(l->items[kept - 1], l->items[i]) == 0)
                        free(l->items[i]);
                else
                        l->items[kept++] = l->items[i];
        }
        l->n = kept;
}

void path_list_done(PathList *l) {
        for (size_t i = 0; i < l->n; i++)
                free(l->items[i]);
        free(l->items);
        *l = (PathList){ 0 };
}
