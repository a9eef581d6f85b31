/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The kernel gives the names of a directory from itself upwards, each with its NUL. A path is the other way
 * round, and begins at the root of a mount, which need not be that of the superblock. It knows no map and no
 * file; what is cut or malformed has no path. */
#include <string.h>

#include "base/path-util.h"
#include "core/misses/misses-internal.h"

/* From the root of the superblock. */
static int join(const MissesDirectory *d, char ret[MISSES_NAMES]) {
        size_t left = d->length;
        char *out = ret;

        if (left > MISSES_NAMES || (left > 0 && d->names[left - 1] != '\0'))
                return -ENAMETOOLONG;
        while (left > 0) {
                const char *name = d->names + left - 1, *at;

                for (at = name; at > d->names && at[-1] != '\0'; at--)
                        ;
                if (at == name || memchr(at, '/', (size_t) (name - at)))
                        return -ENAMETOOLONG;
                if (out > ret)
                        *out++ = '/';
                out = mempcpy(out, at, (size_t) (name - at));
                left = (size_t) (at - d->names);
        }
        *out = '\0';
        return 0;
}

int misses_path(const MissesDirectory *d, const char *root, char ret[MISSES_NAMES]) {
        char whole[MISSES_NAMES];
        const char *rest;
        int r = join(d, whole);

        if (r < 0)
                return r;
        rest = path_startswith(whole, root[0] == '/' ? root + 1 : root);
        if (!rest)
                return 0;
        strcpy(ret, rest);
        return 1;
}

int misses_compare(const void *a, const void *b) {
        const MissesDirectory *const *x = a, *const *y = b;

        if ((*x)->n_asked != (*y)->n_asked)
                return (*x)->n_asked < (*y)->n_asked ? 1 : -1;
        return (*x)->n_saved < (*y)->n_saved ? 1 : (*x)->n_saved > (*y)->n_saved ? -1 : 0;
}
