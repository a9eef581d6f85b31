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

/* Stops the walk there. */
static int match(Node *n, void *userdata) {
        Search *s = userdata;

        if (!n->new_handle || strcmp(n->new_handle, s->handle) != 0)
                return 0;
        s->found = n;
        return -EEXIST;
}

static int read_record(RecordEditor *e, const char *id) {
        if (e->tree && strcmp(e->tree->id, id) == 0 && manifest_is_same(e->tree, e->records_fd, id))
                return 0;
        e->tree = tree_free(e->tree);
        return manifest_read(e->records_fd, id, &e->tree);
}

int record_edit(RecordEditor *e, const Node *loaded, record_edit_func func, void *userdata) {
        _cleanup_close_ int lock_fd = open_dir_beneath(e->records_fd, "");
        Search s = { .handle = loaded->new_handle };
        const char *id = loaded->tree->id;
        int r;

        if (lock_fd < 0 || flock(lock_fd, LOCK_EX) < 0)
                return lock_fd < 0 ? lock_fd : -errno;
        r = read_record(e, id);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        (void) tree_foreach(e->tree, match, &s);
        if (!s.found)
                return 0;
        r = func(s.found, userdata);
        if (r >= 0)
                r = manifest_update(s.found, e->records_fd, id, /* sync= */ true);
        if (r < 0)
                e->tree = tree_free(e->tree);
        return r;
}

void record_editor_done(RecordEditor *e) {
        e->tree = tree_free(e->tree);
}

int record_forget(Node *n, void *name) {
        Entry *e = node_find(n, name);

        if (e)
                entry_forget(n, e);
        return 0;
}
