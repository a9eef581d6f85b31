/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The raw part of an undo: a directory in staging that is merged with the lower path, and has a whiteout for
 * every lower name which the directory had when it was finalized, and for every name it has now. Entries are
 * then linked over the whiteouts through the overlay, by others. Its name was never looked up through the
 * overlay: so the kernel has no dentry that could disagree (docs/overlayfs.md 1.4, 4.2, 4.4). */

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/exchange/exchange-internal.h"
#include "core/upper/raw.h"

static int make_whiteouts(const Node *n, int dfd) {
        ENTRY_FOREACH (n, e) {
                /* A directory below gets one too; its own turn replaces it. */
                int r = raw_make_whiteout(dfd, e->name);

                if (r < 0)
                        return r;
        }
        return 0;
}

int undo_make_directory(Exchange *x, Node *n) {
        _cleanup_free_ char *path = node_path(n), *parent = path ? path_dirname(path) : NULL;
        _cleanup_close_ int parent_fd = -EBADF, fd = -EBADF;
        const char *name;

        if (!parent)
                return -ENOMEM;
        name = n->entry ? n->entry->name : STAGING_TREE;
        parent_fd = open_dir_beneath(n->entry ? x->new.upper_fd : x->staging.dir.upper_fd, parent);
        if (parent_fd < 0)
                return parent_fd;
        if (unlinkat(parent_fd, name, 0) < 0 && errno != ENOENT)
                return -errno;
        fd = raw_make_merged(parent_fd, name, n->lower);
        return fd < 0 ? fd : make_whiteouts(n, fd);
}
