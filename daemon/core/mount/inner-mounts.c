/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/mount/inner-mounts.h"

#include <string.h>

#include "base/path-util.h"
#include "core/mount/layer-use.h"
#include "core/mount/mount-table.h"

/* Readings of the mount tables until processes that go away do not matter any more. */
#define MAX_ROUNDS 3

typedef struct Inner {
        dev_t device;
        OverlayInnerMount *items;
        int *ids; /* mount ids, unique on the machine: one mount may be seen from several roots; of a layer 0
                   */
        size_t n;
        LayerUses layers;
} Inner;

static void inner_done(Inner *i) {
        overlay_inner_mounts_free(i->items, i->n);
        free(i->ids);
        layer_uses_done(&i->layers);
}

bool inner_mounts_have_layer(const OverlayInnerMount *m, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (m[i].kind == INNER_LAYER)
                        return true;
        return false;
}

void overlay_inner_mounts_free(OverlayInnerMount *m, size_t n) {
        for (size_t i = 0; i < n; i++) {
                free(m[i].path);
                free(m[i].where);
        }
        free(m);
}

static int inner_reserve(Inner *i) {
        return ARRAY_GROW(i->items, i->n) && ARRAY_GROW(i->ids, i->n) ? 0 : -ENOMEM;
}

static bool inner_has(const Inner *i, int id, InnerKind kind) {
        for (size_t k = 0; k < i->n; k++)
                if (i->ids[k] == id && i->items[k].kind == kind)
                        return true;
        return false;
}

/* Takes path over. */
static int inner_add(Inner *i, char *path, const MountEntry *e, InnerKind kind, pid_t pid) {
        _cleanup_free_ char *p = path, *where = strdup(e->target);
        int r;

        if (!p || !where)
                return -ENOMEM;
        if (inner_has(i, e->id, kind))
                return 0;
        r = inner_reserve(i);
        if (r < 0)
                return r;
        i->ids[i->n] = e->id;
        i->items[i->n++] = (OverlayInnerMount){
                .path = TAKE_PTR(p),
                .where = TAKE_PTR(where),
                .kind = kind,
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
                r = inner_add(i, path_join(e->root + 1, below), child, INNER_MOUNT, pid);
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
                        r = inner_add(i, strdup(e->root + 1), e, INNER_BIND, pid);
                        if (r < 0)
                                return r;
                }
                r = add_children(i, t, e, pid);
                if (r < 0)
                        return r;
        }
        return layer_uses_note(&i->layers, t, pid);
}

static bool has_layer(const Inner *i, const LayerUse *u) {
        for (size_t k = 0; k < i->n; k++) {
                const OverlayInnerMount *m = i->items + k;

                if (m->kind == INNER_LAYER && m->inode == u->inode && m->is_somewhere == !u->path &&
                    strcmp(m->where, u->other->where) == 0 && strcmp(m->path, u->path ?: u->tail ?: "") == 0)
                        return true;
        }
        return false;
}

static int add_layer(const LayerUse *u, void *userdata) {
        Inner *i = userdata;
        OverlayInnerMount m = { .kind = INNER_LAYER,
                                .pid = u->other->pid,
                                .inode = u->inode,
                                .is_proven = u->is_proven,
                                .is_somewhere = !u->path };
        int r;

        if (has_layer(i, u))
                return 0;
        r = inner_reserve(i);
        if (r < 0)
                return r;
        m.path = strdup(u->path ?: u->tail ?: "");
        m.where = strdup(u->other->where);
        if (!m.path || !m.where) {
                free(m.path);
                free(m.where);
                return -ENOMEM;
        }
        i->ids[i->n] = 0;
        i->items[i->n++] = m;
        return 0;
}

static int compare(const void *a, const void *b) {
        const OverlayInnerMount *x = a, *y = b;
        int r = strcmp(x->path, y->path);

        return r != 0 ? r : strcmp(x->where, y->where);
}

/* overlay_inner_mounts() - mounts upon, bind mounts of, and overlays upon directories of an overlay
 * What is mounted between the call and its use is missed: whoever relies on the answer asks again
 * afterwards. A mount upon the root of the overlay has path "". Returns 0, -ENOMEM, or what opening proc
 * says. Source: is_local_mountpoint() covers the caller's namespace only. */
int overlay_inner_mounts(
        const Overlay *o, const char *proc, InnerSearch *s, OverlayInnerMount **ret, size_t *ret_n) {
        for (unsigned round = 1;; round++) {
                _cleanup_(inner_done)
                        Inner i = { .device = o->device, .layers = { .overlay = o, .proc = proc } };
                int r = mount_namespaces_foreach(proc, visit_table, &i);

                if (r >= 0)
                        r = layer_uses_find(&i.layers, s, round == MAX_ROUNDS, add_layer, &i);
                if (r == -EAGAIN)
                        continue;
                if (r < 0)
                        return r;
                if (i.n > 0)
                        qsort(i.items, i.n, sizeof(*i.items), compare);
                *ret_n = i.n;
                *ret = TAKE_PTR(i.items);
                i.n = 0;
                return 0;
        }
}

static bool ends_with(const char *path, const char *tail) {
        size_t n = strlen(path), k = strlen(tail);

        return k == 0 || (n >= k && strcmp(path + n - k, tail) == 0 && (n == k || path[n - k - 1] == '/'));
}

bool inner_layer_is(const OverlayInnerMount *m, const char *path, ino_t inode) {
        if (m->kind != INNER_LAYER)
                return false;
        if (m->inode != 0 && m->inode == inode)
                return true;
        if (m->is_somewhere)
                return m->inode == 0 && ends_with(path, m->path);
        return strcmp(m->path, path) == 0;
}

void inner_mount_to_text(const OverlayInnerMount *m, char buffer[static INNER_MOUNT_TEXT_SIZE]) {
        static const char *const what[] = {
                [INNER_MOUNT] = "the mount point",
                [INNER_BIND] = "bind-mounted at",
                [INNER_LAYER] = "a layer of the overlay at",
        };

        (void) snprintf(
                buffer, INNER_MOUNT_TEXT_SIZE, "%s '%s' (seen by process %d)", what[m->kind], m->where,
                (int) m->pid);
}
