/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/record/record-edit.h"

#include <string.h>
#include <sys/file.h>

#include "base/fs-util.h"
#include "core/record/manifest.h"

typedef struct Search {
        const char *handle;
        Node *found;
} Search;

static int match(Node *n, void *userdata) {
        Search *s = userdata;

        if (n->new_handle && strcmp(n->new_handle, s->handle) == 0)
                s->found = n;
        return 0;
}

int record_edit(int records_fd, const char *id, const char *handle, record_edit_func func, void *userdata) {
        _cleanup_close_ int lock_fd = open_dir_beneath(records_fd, "");
        _cleanup_(tree_freep) Tree *t = NULL;
        Search s = { .handle = handle };
        int r;

        if (lock_fd < 0 || flock(lock_fd, LOCK_EX) < 0)
                return lock_fd < 0 ? lock_fd : -errno;
        r = manifest_read(records_fd, id, &t);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        (void) tree_foreach(t, match, &s);
        if (!s.found)
                return 0;
        r = func(s.found, userdata);
        return r < 0 ? r : manifest_write(t, records_fd, id, /* sync= */ true);
}

int record_forget(Node *n, void *name) {
        Entry *e = node_find(n, name);

        if (e)
                entry_forget(n, e);
        return 0;
}
