/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where an overlay is mounted, in all mount namespaces, and which of those mounts a swap reaches. Mounts
 * are known by mount tables alone, read in each namespace by way of one of its processes; overlays that
 * have it for a layer are layer-use.h's to find. A mount follows the swap only if that is sure: same user
 * namespace, and a peer group to which it spreads. */
#include <fcntl.h>
#include <string.h>

#include "base/path-util.h"
#include "core/mount/inner-mounts.h"
#include "core/mount/mount-table.h"
#include "core/users/blockers-internal.h"

/* A mount as propagation sees it: 0 is no peer group. */
typedef struct Peer {
        int shared, master;
} Peer;

typedef struct Loading {
        const Overlay *overlay;
        const char *proc;
        char own_namespace[PATH_MAX], own_user[PATH_MAX];
        Places *places;
        Peer *parents; /* of the mount that places->items of the same index is mounted on */
        Peer *peers;   /* all mounts there are */
        size_t n_peers;
        Peer main; /* the mount that the overlay itself is mounted on */
} Loading;

static void loading_done(Loading *l) {
        free(l->parents);
        free(l->peers);
}

static void place_done(Place *p) {
        free(p->namespace);
        free(p->target);
        free(p->root);
}

void places_done(Places *p) {
        for (size_t i = 0; i < p->n; i++)
                place_done(p->items + i);
        free(p->items);
        *p = (Places){ 0 };
}

const Place *places_find(const Places *p, int id) {
        for (size_t i = 0; i < p->n; i++)
                if (p->items[i].id == id && p->items[i].is_overlay)
                        return p->items + i;
        return NULL;
}

static int group(const char *fields, const char *key) {
        const char *p = strstr(fields, key);

        return p ? (int) strtol(p + strlen(key), NULL, 10) : 0;
}

static Peer peer_of(const MountEntry *e) {
        return (Peer){ .shared = group(e->propagation, "shared:"),
                       .master = group(e->propagation, "master:") };
}

static const MountEntry *parent_of(const MountTable *t, const MountEntry *e) {
        for (size_t i = 0; i < t->n; i++)
                if (t->items[i].id == e->parent_id && t->items + i != e)
                        return t->items + i;
        return NULL;
}

static int add_place(Loading *l, Place *place, Peer parent) {
        Places *p = l->places;

        if (!ARRAY_GROW(p->items, p->n) || !ARRAY_GROW(l->parents, p->n) || !place->namespace ||
            !place->target || !place->root)
                return -ENOMEM;
        l->parents[p->n] = parent;
        p->items[p->n++] = *place;
        *place = (Place){ 0 };
        return 0;
}

static bool has_id(const Places *p, int id) {
        for (size_t i = 0; i < p->n; i++)
                if (p->items[i].id == id)
                        return true;
        return false;
}

/* root is that of the process whose table this is, for its mount points are told as it sees them. */
static int add_entry(
        Loading *l,
        const MountTable *t,
        const MountEntry *e,
        pid_t pid,
        const char *namespace,
        const char *root) {
        const MountEntry *parent = parent_of(t, e);
        _cleanup_(place_done) Place place = {
                .id = e->id,
                .is_overlay = e->device == l->overlay->device,
                .is_ours = strcmp(namespace, l->own_namespace) == 0,
                .namespace = strdup(namespace),
                .target = path_join(root, path_startswith(e->target, "/") ?: ""),
                .root = strdup(path_startswith(e->root, "/") ?: e->root),
                .pid = pid,
        };

        if (has_id(l->places, e->id))
                return 0;
        if (e->id == l->overlay->mount_id && parent)
                l->main = peer_of(parent);
        return add_place(l, &place, parent ? peer_of(parent) : (Peer){ 0 });
}

static bool is_on_overlay(const Loading *l, const MountTable *t, const MountEntry *e) {
        const MountEntry *parent = parent_of(t, e);

        return e->device == l->overlay->device || (parent && parent->device == l->overlay->device);
}

static int add_peers(Loading *l, const MountTable *t) {
        Peer *peers = reallocarray(l->peers, l->n_peers + t->n, sizeof(*peers));

        if (!peers)
                return -ENOMEM;
        l->peers = peers;
        for (size_t i = 0; i < t->n; i++)
                peers[l->n_peers++] = peer_of(t->items + i);
        return 0;
}

static void read_process_link(const Loading *l, pid_t pid, const char *name, char buffer[static PATH_MAX]) {
        char path[PATH_MAX];

        (void) snprintf(path, sizeof(path), "%s/%d/%s", l->proc, (int) pid, name);
        (void) proc_read_link(AT_FDCWD, path, buffer);
}

static int visit_table(const MountTable *t, pid_t pid, const char *namespace, void *userdata) {
        Loading *l = userdata;
        char root[PATH_MAX];
        int r;

        read_process_link(l, pid, "root", root);
        for (size_t i = 0; i < t->n; i++) {
                if (!is_on_overlay(l, t, t->items + i))
                        continue;
                r = add_entry(l, t, t->items + i, pid, namespace, root);
                if (r < 0)
                        return r;
        }
        return add_peers(l, t);
}

typedef struct Groups {
        int *items;
        size_t n;
} Groups;

static void groups_done(Groups *g) {
        free(g->items);
}

static bool groups_have(const Groups *g, int id) {
        for (size_t i = 0; i < g->n; i++)
                if (g->items[i] == id)
                        return true;
        return false;
}

/* The peer groups to which mounts upon one of group main spread: main and the slaves, their slaves, … */
static int groups_load(const Loading *l, Groups *ret) {
        ret->items = calloc(l->n_peers + 1, sizeof(int));
        if (!ret->items)
                return -ENOMEM;
        if (l->main.shared == 0)
                return 0;
        ret->items[ret->n++] = l->main.shared;
        for (size_t i = 0; i < ret->n; i++)
                for (size_t k = 0; k < l->n_peers; k++)
                        if (l->peers[k].shared != 0 && l->peers[k].master == ret->items[i] &&
                            !groups_have(ret, l->peers[k].shared))
                                ret->items[ret->n++] = l->peers[k].shared;
        return 0;
}

/* Mounts that a namespace of another user was made with are locked there: nothing that spreads uncovers
 * them. */
static bool is_locked(const Loading *l, pid_t pid) {
        char user[PATH_MAX];

        read_process_link(l, pid, "ns/user", user);
        return strcmp(user, l->own_user) != 0;
}

static int find_followers(Loading *l) {
        _cleanup_(groups_done) Groups g = { 0 };
        int r = groups_load(l, &g);

        for (size_t i = 0; i < l->places->n && r >= 0; i++) {
                const Peer *p = l->parents + i;
                Place *place = l->places->items + i;

                place->follows = place->root[0] == '\0' &&
                        (groups_have(&g, p->shared) || groups_have(&g, p->master)) &&
                        !is_locked(l, place->pid);
        }
        return r;
}

/* One that has been swapped out stands in no table; /proc shows paths on it from its own root. */
static int add_detached(Loading *l) {
        _cleanup_(place_done) Place place = {
                .id = l->overlay->mount_id,
                .is_overlay = true,
                .is_ours = true,
                .namespace = strdup(""),
                .target = strdup("/"),
                .root = strdup(""),
        };

        if (places_find(l->places, place.id))
                return 0;
        l->places->is_detached = true;
        return add_place(l, &place, (Peer){ 0 });
}

int places_load(const Overlay *o, const char *proc, Places *ret) {
        _cleanup_(places_done) Places places = { 0 };
        _cleanup_(loading_done) Loading l = { .overlay = o, .proc = proc, .places = &places };
        char path[PATH_MAX];
        int r;

        (void) snprintf(path, sizeof(path), "%s/self/ns/mnt", proc);
        (void) proc_read_link(AT_FDCWD, path, l.own_namespace);
        (void) snprintf(path, sizeof(path), "%s/self/ns/user", proc);
        (void) proc_read_link(AT_FDCWD, path, l.own_user);
        r = mount_namespaces_foreach(proc, visit_table, &l);
        if (r >= 0)
                r = find_followers(&l);
        if (r >= 0)
                r = add_detached(&l);
        if (r < 0)
                return r;
        *ret = TAKE_AS(places, (Places){ 0 });
        return 0;
}

char *place_relative(const Place *place, const char *path) {
        const char *below = path_startswith(path, place->target);

        return below ? path_join(place->root, below) : NULL;
}

/* Of two mounts at one point, the one that was listed later covers the other. */
static const Place *reach(const Places *p, const char *namespace, const char *path) {
        const Place *best = NULL;

        for (size_t i = 0; i < p->n; i++) {
                const Place *place = p->items + i;

                if (place->namespace[0] != '\0' && strcmp(place->namespace, namespace) == 0 &&
                    path_startswith(path, place->target) &&
                    (!best || strlen(place->target) >= strlen(best->target)))
                        best = place;
        }
        return best;
}

int places_resolve(const Places *p, const char *namespace, const char *path, char **ret) {
        const Place *place = reach(p, namespace, path);

        if (!place || !place->is_overlay)
                return 0;
        *ret = place_relative(place, path);
        return *ret ? 1 : -ENOMEM;
}

/* The mount point of another file system upon the overlay, relative to the overlay: the parent's. */
static char *covered_path(const Places *p, const Place *place) {
        const Place *best = NULL;

        for (size_t i = 0; i < p->n; i++) {
                const Place *other = p->items + i;

                if (other->is_overlay && other != place && strcmp(other->namespace, place->namespace) == 0 &&
                    path_startswith(place->target, other->target) &&
                    (!best || strlen(other->target) > strlen(best->target)))
                        best = other;
        }
        return best ? place_relative(best, place->target) : NULL;
}

/* Mounts inside are carried over by a swap; a copy elsewhere keeps the old superblock, unless the swap
 * reaches it. */
static int add_mount(Search *s, const Place *place) {
        _cleanup_free_ char *path =
                place->is_overlay ? strdup(place->root) : covered_path(&s->places, place);
        int r = search_add(s, BLOCKER_MOUNT, place->is_overlay, TAKE_PTR(path), /* inode= */ 0);

        if (r <= 0)
                return r;
        s->items[s->n - 1].blocker.where = strdup(place->target);
        return s->items[s->n - 1].blocker.where ? 0 : -ENOMEM;
}

/* It goes on with the old superblock, and holds it. */
static int add_layer(Search *s, const OverlayInnerMount *m) {
        int r;

        search_begin(s, m->pid);
        r = search_add(s, BLOCKER_LAYER, true, m->is_somewhere ? NULL : strdup(m->path), /* inode= */ 0);
        if (r <= 0)
                return r;
        s->items[s->n - 1].blocker.where = strdup(m->where);
        return s->items[s->n - 1].blocker.where ? 0 : -ENOMEM;
}

int search_layers(Search *s) {
        _cleanup_(inner_search_done) InnerSearch inner = INNER_SEARCH_INIT;
        OverlayInnerMount *items;
        size_t n;
        int r;

        if (s->places.is_detached) /* no path leads to it */
                return 0;
        r = overlay_inner_mounts(s->overlay, s->proc, &inner, &items, &n);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n && r >= 0; i++)
                if (items[i].kind == INNER_LAYER)
                        r = add_layer(s, items + i);
        overlay_inner_mounts_free(items, n);
        return r;
}

int search_mounts(Search *s) {
        for (size_t i = 0; i < s->places.n; i++) {
                const Place *place = s->places.items + i;
                int r;

                if (place->id == s->overlay->mount_id || place->follows ||
                    (!place->is_overlay && !place->is_ours))
                        continue;
                search_begin(s, place->is_ours ? 0 : place->pid);
                r = add_mount(s, place);
                if (r < 0)
                        return r;
        }
        return 0;
}

int search_resolve(const Search *s, const char *path, char **ret) {
        return places_resolve(&s->places, s->namespace, path, ret);
}
