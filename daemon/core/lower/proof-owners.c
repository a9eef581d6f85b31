/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The kernel tells the id map only of mounts that are in a mount table, and those that an overlay has of its
 * layers are in none. So the owners of the first entries are compared, through both mounts. An entry that
 * is another one by now, or that is denied, tells nothing. */
#include "core/lower/proof-owners.h"

#include "base/fs-util.h"
#include "base/path-util.h"

#define ENTRIES_MAX 1024U

typedef struct Walk {
        int layer_fd, path_fd;
        const char *path; /* of the directory being walked */
        unsigned n_entries;
} Walk;

static int walk(Walk *w, const char *path);

static int compare(Walk *w, const char *path) {
        _cleanup_close_ int a = open_beneath(w->layer_fd, path, O_PATH | O_NOFOLLOW);
        _cleanup_close_ int b = open_beneath(w->path_fd, path, O_PATH | O_NOFOLLOW);
        struct stat x, y;

        if (a < 0 || b < 0 || fstat(a, &x) < 0 || fstat(b, &y) < 0 || x.st_ino != y.st_ino)
                return 0;
        return x.st_uid == y.st_uid && x.st_gid == y.st_gid ? 0 : -EREMCHG;
}

static int visit(int dfd, const char *name, unsigned char type, void *userdata) {
        _cleanup_free_ char *path = NULL;
        Walk *w = userdata;
        int r;

        if (w->n_entries++ >= ENTRIES_MAX)
                return WALK_ENOUGH;
        path = path_join(w->path, name);
        if (!path)
                return -ENOMEM;
        r = compare(w, path);
        return r < 0 || type != DT_DIR ? r : walk(w, path);
}

static int walk(Walk *w, const char *path) {
        _cleanup_close_ int fd = open_dir_beneath(w->path_fd, path);
        const char *around = w->path;
        int r;

        if (fd < 0)
                return 0;
        w->path = path;
        r = dir_foreach(fd, visit, w);
        w->path = around;
        return r == -EREMCHG || r == -ENOMEM || r == WALK_ENOUGH ? r : 0;
}

int proof_owners(int layer_fd, int path_fd) {
        Walk w = { .layer_fd = layer_fd, .path_fd = path_fd };
        int r = compare(&w, "");

        if (r >= 0)
                r = walk(&w, "");
        return r == WALK_ENOUGH ? 0 : r;
}
