/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a refresh reads in the records, and what it leaves there. No directory is changed here. The record
 * is written last, when what it says is true; what a kill leaves unrecorded is known by its redirect or its
 * digest, and adopted by the next refresh. */
#include <string.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/record/tree.h"
#include "core/release/refresh-internal.h"

typedef struct Recording {
        const RefreshDirectory *d;
        Node *node;
} Recording;

static int record_tree(const RefreshDirectory *d, Node *n, int upper_fd, const char *lower);

static int record_entry(int dfd, const char *name, unsigned char type, void *userdata) {
        const Recording *rec = userdata;
        _cleanup_free_ char *lower = path_join(rec->node->lower, name);
        _cleanup_close_ int fd = -EBADF;
        Entry *e;
        int r = lower ? node_add(rec->node, name, type, &e) : -ENOMEM;

        if (r < 0)
                return r;
        e->is_placed = true;
        if (type != DT_DIR) {
                difference_note(e, rec->d->p->lower, lower);
                return 0;
        }
        fd = open_dir_beneath(dfd, name);
        return fd < 0 ? fd : record_tree(rec->d, e->dir, fd, lower);
}

/* What stands below a directory taken in. */
static int record_tree(const RefreshDirectory *d, Node *n, int upper_fd, const char *lower) {
        Recording rec = { .d = d, .node = n };
        int r = file_handle_at(upper_fd, "", &n->new_handle);

        if (r < 0)
                return r;
        n->lower = strdup(lower);
        n->is_attributes_dirty = false;
        if (!n->lower)
                return -ENOMEM;
        difference_note_directory(n, d->p->lower);
        return dir_foreach(upper_fd, record_entry, &rec);
}

static void record_lower(const RefreshDirectory *d, const RefreshChange *c, Entry *e) {
        e->type = IFTODT(c->st.st_mode);
        difference_note_known(e, d->p->lower, &c->st, c->xattrs);
}

/* From now on it is a name of the lower, also where a user's own stands there: deleted, it stays so. */
static int record_new(Node *n, const RefreshDirectory *d, const RefreshChange *c) {
        _cleanup_close_ int fd = -EBADF;
        Entry *e = node_find(n, c->name);
        int r;

        if (e && e->is_local)
                entry_forget(n, e);
        r = node_add(n, c->name, IFTODT(c->st.st_mode), &e);
        if (r < 0)
                return r == -EEXIST ? 0 : r;
        e->is_placed = true;
        if (!S_ISDIR(c->st.st_mode) || c->is_local) {
                record_lower(d, c, e);
                return 0;
        }
        fd = open_dir_beneath(d->pair.upper_fd, c->name);
        return fd < 0 ? fd : record_tree(d, e->dir, fd, c->lower);
}

static int record_change(Node *n, const RefreshDirectory *d, const RefreshChange *c) {
        Entry *e = node_find(n, c->name);

        if (c->kind == DIFFERENCE_ATTRIBUTES) {
                n->base = c->attributes;
                return 0;
        }
        if (e && c->kind == DIFFERENCE_CHANGED && e->type != DT_DIR && !S_ISDIR(c->st.st_mode)) {
                record_lower(d, c, e);
                return 0;
        }
        if (e)
                entry_forget(n, e);
        return c->kind == DIFFERENCE_REMOVED ? 0 : record_new(n, d, c);
}

/* What nobody has touched, of ours. */
static void record_as_before(const Node *n, const RefreshChange *c) {
        Entry *e = node_find(n, c->name);

        if (!e)
                return;
        e->base = c->base;
        e->ctime = c->ctime;
}

int refresh_record(Node *n, void *userdata) {
        const RefreshDirectory *d = userdata;
        int r = 0;

        for (size_t i = 0; r >= 0 && i < d->n; i++)
                if (d->items[i].is_done)
                        r = record_change(n, d, d->items + i);
                else if (d->items[i].is_noted && !d->items[i].is_begun)
                        record_as_before(n, d->items + i);
        return r;
}

typedef struct Holding {
        const Records *records;
        const Node *node; /* NULL: nothing is recorded of it */
} Holding;

/* Stops the listing with what it means, as a negative number, since that is what ends one. */
#define HOLDS_LOCAL (-EEXIST)

static int find_local(int upper_fd, const char *name, unsigned char type, void *userdata) {
        const Holding *h = userdata;
        const Entry *recorded = h->node ? node_find(h->node, name) : NULL;
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        _cleanup_close_ int fd = -EBADF;
        int r = upper_entry_read(upper_fd, name, &e);

        if (r < 0 || e.class == UPPER_MISSING || e.class == UPPER_WHITEOUT)
                return errno_is_gone(r) ? 0 : r;
        /* What came under another name than it had below was made or moved here. */
        if (h->node ? !recorded || recorded->is_local : e.redirect != NULL)
                return HOLDS_LOCAL;
        if (e.type != DT_DIR)
                return entry_is_locally_modified(upper_fd, name, recorded, &e) ? HOLDS_LOCAL : 0;
        fd = open_dir_beneath(upper_fd, name);
        r = fd < 0 ? fd : refresh_holds_local(h->records, fd);
        return r > 0 ? HOLDS_LOCAL : r;
}

int refresh_holds_local(const Records *records, int upper_fd) {
        _cleanup_free_ char *handle = NULL;
        Holding h = { .records = records };
        int r = file_handle_at(upper_fd, "", &handle);

        if (r < 0)
                return r;
        h.node = records_find(records, handle);
        r = dir_foreach(upper_fd, find_local, &h);
        return r == HOLDS_LOCAL ? 1 : r;
}
