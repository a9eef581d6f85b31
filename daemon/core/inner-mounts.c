/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which directories of an overlay other mounts hang on, or show elsewhere, in any mount namespace: those an
 * exchange would pull along or leave behind (facts, E.2 "a mount below D", "bind mount of D"). */
#include <string.h>

#include "base/path-util.h"
#include "core/mount-table.h"
#include "core/overlay.h"

typedef struct Inner {
        dev_t device;
        OverlayInnerMount *items;
        int *ids; /* mount ids, unique on the machine: one mount may be seen from several roots */
        size_t n;
} Inner;

static void inner_done(Inner *i) {
        overlay_inner_mounts_free(i->items, i->n);
        free(i->ids);
}

void overlay_inner_mounts_free(OverlayInnerMount *m, size_t n) {
        for (size_t i = 0; i < n; i++) {
                free(m[i].path);
                free(m[i].where);
        }
        free(m);
}

static int inner_reserve(Inner *i) {
        OverlayInnerMount *items = reallocarray(i->items, i->n + 1, sizeof(*items));
        int *ids;

        if (!items)
                return -ENOMEM;
        i->items = items;
        ids = reallocarray(i->ids, i->n + 1, sizeof(*ids));
        if (!ids)
                return -ENOMEM;
        i->ids = ids;
        return 0;
}

static bool inner_has(const Inner *i, int id, bool is_bind) {
        for (size_t k = 0; k < i->n; k++)
                if (i->ids[k] == id && i->items[k].is_bind == is_bind)
                        return true;
        return false;
}

/* Takes path over. */
static int inner_add(Inner *i, char *path, const MountEntry *e, bool is_bind, pid_t pid) {
        _cleanup_free_ char *p = path, *where = strdup(e->target);
        int r;

        if (!p || !where)
                return -ENOMEM;
        if (inner_has(i, e->id, is_bind))
                return 0;
        r = inner_reserve(i);
        if (r < 0)
                return r;
        i->ids[i->n] = e->id;
        i->items[i->n++] = (OverlayInnerMount){
                .path = TAKE_PTR(p),
                .where = TAKE_PTR(where),
                .is_bind = is_bind,
                .pid = pid,
        };
        return 0;
}

static bool is_deleted(const char *root) {
        static const char suffix[] = "//deleted"; /* no name holds "//" */
        size_t n = strlen(root);

        return n >= sizeof(suffix) - 1 && strcmp(root + n - (sizeof(suffix) - 1), suffix) == 0;
}

/* e shows root of the overlay at its mount point: what is mounted there below hangs on an inner directory.
 */
static int add_children(Inner *i, const MountTable *t, const MountEntry *e, pid_t pid) {
        for (size_t k = 0; k < t->n; k++) {
                const MountEntry *child = t->items + k;
                const char *below;
                int r;

                if (child == e || child->parent_id != e->id)
                        continue;
                below = path_startswith(child->target, e->target);
                if (!below || is_deleted(child->target))
                        continue;
                r = inner_add(i, path_join(e->root + 1, below), child, false, pid);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int visit_table(const MountTable *t, pid_t pid, const char *namespace, void *userdata) {
        Inner *i = userdata;
        int r;

        for (size_t k = 0; k < t->n; k++) {
                const MountEntry *e = t->items + k;

                if (e->device != i->device || e->root[0] != '/' || is_deleted(e->root))
                        continue;
                if (e->root[1] != '\0') {
                        r = inner_add(i, strdup(e->root + 1), e, true, pid);
                        if (r < 0)
                                return r;
                }
                r = add_children(i, t, e, pid);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int compare(const void *a, const void *b) {
        const OverlayInnerMount *x = a, *y = b;
        int r = strcmp(x->path, y->path);

        return r != 0 ? r : strcmp(x->where, y->where);
}

/* overlay_inner_mounts() - mounts upon, and bind mounts of, directories of an overlay
 * A mount made between the call and its use is missed: whoever relies on the answer asks again afterwards.
 * A mount upon the root of the overlay has path "". Returns 0, -ENOMEM, or what opening proc says.
 * Blocking: on /proc only. Source: is_local_mountpoint() covers the caller's namespace only. */
int overlay_inner_mounts(const Overlay *o, const char *proc, OverlayInnerMount **ret, size_t *ret_n) {
        _cleanup_(inner_done) Inner i = { .device = o->device };
        int r;

        r = mount_namespaces_foreach(proc, visit_table, &i);
        if (r < 0)
                return r;
        if (i.n > 0)
                qsort(i.items, i.n, sizeof(*i.items), compare);
        *ret_n = i.n;
        *ret = TAKE_PTR(i.items);
        i.n = 0;
        return 0;
}
