/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Other overlays that have a directory of the old tree for a layer: one that was mounted in the moment of
 * the exchange, or by somebody who stands in the tree. The old tree is whole, and right for whoever looks
 * through such an overlay, as long as it stays: so it stays until that is unmounted. They are found and told
 * of here, and nothing is changed. In doubt an overlay counts as one of them. */
#include <sys/stat.h>

#include "base/clock.h"
#include "core/exchange/exchange-internal.h"

/* A search reads all mount tables, and lists the root of each other overlay. */
#define LOOK_AGAIN_USEC (2 * USEC_PER_SEC)

typedef struct Match {
        const Exchange *x;
        const OverlayInnerMount *items;
        size_t n;
        const OverlayInnerMount *found;
} Match;

/* One of which the kernel does not say that it is another inode may have had this tree there when it was
 * mounted. */
static bool matches(const OverlayInnerMount *m, const char *path, ino_t inode) {
        return m->is_proven ? m->inode == inode : inner_layer_is(m, path, inode);
}

static int match_node(Node *n, void *userdata) {
        Match *m = userdata;
        _cleanup_free_ char *full = exchange_node_path(m->x, n, NULL);
        _cleanup_close_ int fd = node_open(n, m->x->old.fd);
        struct stat st;

        if (!full || fd == -ENOMEM)
                return -ENOMEM;
        if (fd < 0)
                return 0;
        if (fstat(fd, &st) < 0)
                return -errno;
        for (size_t i = 0; i < m->n && !m->found; i++)
                if (matches(m->items + i, full, st.st_ino))
                        m->found = m->items + i;
        return m->found ? -EEXIST : 0;
}

int layer_hold_find(
        const Exchange *x, const OverlayInnerMount *items, size_t n, const OverlayInnerMount **ret) {
        Match m = { .x = x, .items = items, .n = n };
        int r = inner_mounts_have_layer(items, n) ? tree_foreach(x->tree, match_node, &m) : 0;

        *ret = m.found;
        return r == -EEXIST ? 0 : r;
}

/* Of a layer above, lookups may have met the old tree in the moment of the exchange, or not: no one tells.
 */
int layer_hold_begin(Exchange *x) {
        const OverlayInnerMount *m;
        int r = context_load_inner_mounts(x->context);

        inner_search_rest(&x->context->inner_search);
        if (r >= 0)
                r = context_find_layer_around(x->context, x->tree->path, &m);
        x->kept.may_be_shown = r > 0;
        return r < 0 ? r : 0;
}

static int find_holder(Exchange *x, const OverlayInnerMount **ret) {
        int r = context_load_inner_mounts(x->context);

        inner_search_rest(&x->context->inner_search);
        if (r >= 0)
                r = layer_hold_find(x, x->context->inner_mounts, x->context->n_inner_mounts, ret);
        if (r >= 0 && !*ret && x->kept.may_be_shown)
                r = context_find_layer_around(x->context, x->tree->path, ret);
        return r;
}

int layer_hold_look(Exchange *x) {
        const OverlayInnerMount *m = NULL;
        char who[INNER_MOUNT_TEXT_SIZE];
        bool is_new;
        int r;

        if (x->phase == PHASE_REMOVE)
                return 0;
        if (x->kept.layer_usec != 0 && now_monotonic_usec() - x->kept.layer_usec < LOOK_AGAIN_USEC)
                return 1;
        r = find_holder(x, &m);
        is_new = m && x->kept.layer_usec == 0;
        x->kept.layer_usec = r >= 0 && m ? now_monotonic_usec() : 0;
        if (r < 0 || !m)
                return r;
        (void) snprintf(
                who, sizeof(who), "the layer of the overlay at '%s' (seen by process %d)", m->where,
                (int) m->pid);
        if (is_new)
                context_note(
                        x->context, x->tree->path, "its old tree stays as it is until %s is unmounted", who);
        context_kept(x->context, x->tree->path, x->staging.id, 1, who);
        return 1;
}
