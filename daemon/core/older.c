/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Old trees in a row. Who stands in an old tree works in it for as long as he likes, and its keeper replays
 * that in the tree which took its place. When the next exchange makes an old tree of that one, it is still
 * where the first keeper replays, and through it everything gets to the tree in effect: so it goes only
 * after the older ones. Which works were there before is written down with the snapshot: by then each one
 * knows only those that had theirs, so none waits for ever, whatever is moved from tree to tree later. */
#include <fcntl.h>
#include <string.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/exchange-internal.h"

#define OLDER_SIZE_MAX ((size_t) 1 << 24)

/* Whether a directory of another work's new tree is one of our old tree. */
static int find_target(Node *n, void *userdata) {
        const Exchange *x = userdata;
        const Node *ours = tree_find_old(x->tree, n->new_inode);

        return ours && ours->old_handle && n->new_handle && strcmp(ours->old_handle, n->new_handle) == 0
                ? -EEXIST
                : 0;
}

static int read_work(const Exchange *x, const char *id, Tree **ret) {
        _cleanup_close_ int fd =
                openat(x->staging.base_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        return fd < 0 ? -errno : staging_read_snapshot(fd, ret);
}

static int add_older(Exchange *x, const char *id) {
        _cleanup_(tree_freep) Tree *t = NULL;
        int r = read_work(x, id, &t);

        if (r == -ENOENT)
                return 0; /* it has ended */
        if (r >= 0)
                r = tree_foreach(t, find_target, x);
        return r == -EEXIST ? path_list_add(&x->older, &x->n_older, id) : r;
}

static int find_older(Exchange *x) {
        _cleanup_free_ char *ids = NULL;
        char *at = NULL;
        int r;

        if (x->has_older)
                return 0;
        path_list_free(x->older, x->n_older);
        x->older = NULL;
        x->n_older = 0;
        r = file_read(x->staging.dir_fd, STAGING_OLDER, OLDER_SIZE_MAX, &ids, NULL);
        if (r == -ENOENT)
                r = 0;
        for (char *id = r >= 0 && ids ? strtok_r(ids, "\n", &at) : NULL; r >= 0 && id;
             id = strtok_r(NULL, "\n", &at))
                r = is_staging_id(id) ? add_older(x, id) : -EBADMSG;
        if (r >= 0)
                x->has_older = true;
        return r;
}

/* What is kept for a person stays longer than the tree and its snapshot. */
static int is_at_work(const Exchange *x, const char *id) {
        char path[STAGING_ID_LENGTH + sizeof("/" STAGING_SNAPSHOT)];

        (void) snprintf(path, sizeof(path), "%s/" STAGING_SNAPSHOT, id);
        if (faccessat(x->staging.base_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) >= 0)
                return 1;
        return errno == ENOENT ? 0 : -errno;
}

typedef struct Listing {
        const Exchange *x;
        FILE *out;
} Listing;

static int list_work(const char *id, void *userdata) {
        Listing *l = userdata;
        int r = is_at_work(l->x, id);

        if (r > 0)
                (void) fprintf(l->out, "%s\n", id);
        return r < 0 ? r : 0;
}

int older_save(Exchange *x) {
        _cleanup_failure_ Failure f = FAILURE_INIT;
        _cleanup_free_ char *ids = NULL;
        size_t size = 0;
        Listing l = { .x = x, .out = open_memstream(&ids, &size) };
        int r;

        if (!l.out)
                return -ENOMEM;
        r = staging_foreach(x->site, list_work, &l, &f);
        if (fclose(l.out) != 0 && r >= 0)
                r = -ENOMEM;
        return r < 0 || size == 0 ? r : file_write_atomic(x->staging.dir_fd, STAGING_OLDER, ids, size);
}

int older_remain(Exchange *x) {
        int r = find_older(x);

        for (size_t i = 0; r >= 0 && i < x->n_older; i++) {
                r = is_at_work(x, x->older[i]);
                if (r != 0)
                        return r;
        }
        return r;
}

int older_standing(const Exchange *x, Standing *ret) {
        char name[sizeof(OLD_TREE_PREFIX) + STAGING_ID_LENGTH];
        int r = 0;

        *ret = (Standing){ 0 };
        for (size_t i = 0; r >= 0 && ret->n == 0 && i < x->n_older; i++) {
                (void) snprintf(name, sizeof(name), OLD_TREE_PREFIX "%s", x->older[i]);
                r = standing_find(name, NULL, ret);
        }
        return r;
}
