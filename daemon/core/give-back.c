/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A directory that somebody moves out of an old tree while that is being removed: who had looked it up
 * before the exchange, or has a descriptor that /proc shows of nobody. He has moved what we were emptying.
 * All of it is in the new tree, which it is to leave as well: so the two change places, and the emptied one
 * comes back to where it was, to be removed. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/exchange-internal.h"

/* A name in a directory, through the overlay and in the upper. */
typedef struct Spot {
        int fd, upper_fd;
        const char *name;
} Spot;

static void spot_done(Spot *s) {
        (void) fd_close(s->fd);
        (void) fd_close(s->upper_fd);
}

static bool holds(const Spot *s, const char *handle) {
        return is_handle_at(s->upper_fd, s->name, handle);
}

/* Where a directory stands by now. -ENOENT it is removed, -EAGAIN it moves just now. path is to be freed
 * after the spot. */
static int find_spot(const Exchange *x, const char *handle, Spot *ret, char **path) {
        _cleanup_close_ int fd = file_handle_open(x->site->upper_fd, handle, path);
        _cleanup_free_ char *parent = NULL;

        if (fd < 0)
                return fd == -ESTALE || fd == -EXDEV ? -ENOENT : fd;
        parent = path_dirname(*path);
        if (!parent)
                return -ENOMEM;
        ret->name = path_basename(*path);
        ret->fd = open_dir_beneath(x->site->root_fd, parent);
        ret->upper_fd = open_dir_beneath(x->site->upper_fd, parent);
        return ret->fd < 0 || ret->upper_fd < 0 || !holds(ret, handle) ? -EAGAIN : 0;
}

static int exchange_names(const Spot *a, const Spot *b) {
        if (renameat2(a->fd, a->name, b->fd, b->name, RENAME_EXCHANGE) >= 0)
                return 0;
        return errno == ENOENT ? -EAGAIN : -errno;
}

/* What users made in the new one goes along. Where somebody came in between, both go back. */
static int change_places(const Node *n, const Spot *old, const Spot *new) {
        int r = exchange_names(old, new);

        if (r < 0 || (holds(old, n->new_handle) && holds(new, n->old_handle)))
                return r;
        r = exchange_names(old, new);
        return r < 0 ? r : -EAGAIN;
}

/* 1: it is where it was. 0: in the grave, because that is taken, or gone. */
static int take_old_back(Exchange *x, const Node *n, const Spot *new) {
        _cleanup_free_ char *path = n->entry && old_stands(x, n->parent) ? node_path(n->parent) : NULL;
        _cleanup_close_ int fd = path ? open_dir_beneath(x->old_fd, path) : -ENOENT;
        char grave[16];

        if (n->is_buried)
                return 0; /* it is there */
        if (fd >= 0 && renameat2(new->fd, new->name, fd, n->entry->name, RENAME_NOREPLACE) >= 0)
                return 1;
        staging_new_name(&x->staging, grave);
        if (renameat2(new->fd, new->name, x->staging.grave_fd, grave, RENAME_NOREPLACE) < 0)
                return errno == ENOENT ? -EAGAIN : -errno;
        return 0;
}

int give_back(Exchange *x, const Node *n, int new_fd, int new_upper_fd, const char *name) {
        const Spot new = { .fd = new_fd, .upper_fd = new_upper_fd, .name = name };
        _cleanup_(spot_done) Spot old = { .fd = -EBADF, .upper_fd = -EBADF };
        _cleanup_free_ char *path = NULL;
        int r;

        if (!n->is_emptied || !n->old_handle || is_elsewhere_in_old(x, n))
                return 0;
        if (!holds(&new, n->old_handle)) { /* else we were killed in between */
                if (!holds(&new, n->new_handle))
                        return 0; /* its users have moved or removed the new one, too */
                r = find_spot(x, n->old_handle, &old, &path);
                if (r >= 0 && is_elsewhere_in_old(x, n))
                        r = -EAGAIN; /* it is back */
                if (r >= 0)
                        r = change_places(n, &old, &new);
                if (r < 0)
                        return r == -ENOENT ? 0 : r;
        }
        return take_old_back(x, n, &new);
}

bool old_stands(const Exchange *x, const Node *n) {
        _cleanup_free_ char *path = node_path(n);
        _cleanup_close_ int fd = path ? open_dir_beneath(x->old_upper_fd, path) : -ENOMEM;

        return fd >= 0 && (!n->old_handle || is_handle_at(fd, "", n->old_handle));
}

static int give_back_at(Exchange *x, const Node *n) {
        _cleanup_close_ int fd = -EBADF, upper_fd = -EBADF;
        int r = node_open_new(x, n->parent, &fd, &upper_fd);

        return r < 0 ? (r == -ESTALE ? 0 : r) : give_back(x, n, fd, upper_fd, n->entry->name);
}

/* Whoever removed it meant the directory, unless that could be us, or somebody who took the tree for
 * something forgotten. */
static int follow_removal(Exchange *x, Node *n) {
        bool is_meant = x->beside_usec == 0 && !x->is_resumed;
        int r;

        n->is_removed = true;
        n->entry->is_placed = is_meant;
        if (!is_meant)
                return 0;
        node_note_change(n->parent, n->entry->name);
        r = reconcile_dirty(x); /* n is gone after it */
        return r < 0 ? r : 1;
}

int directory_left(Exchange *x, Node *n) {
        int r;

        while (n->entry && n->parent->entry && !old_stands(x, n->parent))
                n = n->parent; /* it went with the one around */
        if (!n->entry)
                return 0;
        if (is_elsewhere_in_old(x, n))
                r = reconcile_all(x);
        else {
                r = give_back_at(x, n);
                if (r == 0 || r == -EINVAL)
                        return follow_removal(x, n);
        }
        return r < 0 && r != -EAGAIN ? r : 1;
}
