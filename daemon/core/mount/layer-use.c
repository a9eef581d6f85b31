/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Collects other overlays from the mount tables, asks each, and names what they say. An answer is kept for
 * one search, and who hung is not asked again. */
#include "core/mount/layer-use.h"

#include <string.h>

#include "base/clock.h"
#include "base/path-util.h"
#include "base/str.h"
#include "core/mount/layer-probe.h"

static void other_done(OtherOverlay *o) {
        free(o->fs_options);
        free(o->where);
}

static void place_done(OwnPlace *p) {
        free(p->target);
        free(p->root);
}

void layer_uses_done(LayerUses *u) {
        for (size_t i = 0; i < u->n_others; i++)
                other_done(u->others + i);
        free(u->others);
        for (size_t i = 0; i < u->n_places; i++)
                place_done(u->places + i);
        free(u->places);
        *u = (LayerUses){ 0 };
}

/* So long an answer counts, for an overlay that looks the same. */
#define ANSWER_USEC USEC_PER_SEC

typedef struct LayerAnswer {
        dev_t device;
        char *fs_options, *where;
        uint64_t usec; /* monotonic */
        LayerProbe *probe;
} LayerAnswer;

static void answer_done(LayerAnswer *a) {
        free(a->fs_options);
        free(a->where);
        layer_probe_free(a->probe);
}

void inner_search_rest(InnerSearch *s) {
        s->fanotify_fd = fd_close(s->fanotify_fd);
}

void inner_search_done(InnerSearch *s) {
        for (size_t i = 0; i < s->n_answers; i++)
                answer_done(s->answers + i);
        free(s->answers);
        free(s->hung);
        (void) fd_close(s->fanotify_fd);
        *s = INNER_SEARCH_INIT;
}

static int add_place(LayerUses *u, const MountEntry *e) {
        for (size_t i = 0; i < u->n_places; i++)
                if (u->places[i].id == e->id && strcmp(u->places[i].target, e->target) == 0)
                        return 0;
        if (!ARRAY_GROW(u->places, u->n_places))
                return -ENOMEM;
        u->places[u->n_places] =
                (OwnPlace){ .id = e->id, .target = strdup(e->target), .root = strdup(e->root + 1) };
        if (!u->places[u->n_places].target || !u->places[u->n_places].root) {
                place_done(u->places + u->n_places);
                return -ENOMEM;
        }
        u->n_places++;
        return 0;
}

static OtherOverlay *find_other(const LayerUses *u, dev_t device) {
        for (size_t i = 0; i < u->n_others; i++)
                if (u->others[i].device == device)
                        return u->others + i;
        return NULL;
}

static OtherOverlay *make_other(LayerUses *u, dev_t device) {
        if (!ARRAY_GROW(u->others, u->n_others))
                return NULL;
        u->others[u->n_others] = (OtherOverlay){ .device = device };
        return u->others + u->n_others++;
}

/* The whole of it at a place that no other mount covers serves best: there its root can be listed. */
static int add_other(LayerUses *u, const MountTable *t, const MountEntry *e, pid_t pid) {
        bool is_reachable = strcmp(e->root, "/") == 0 && mount_table_reach(t, e->target) == e;
        OtherOverlay *o = find_other(u, e->device);
        char *where, *fs_options;

        if (o && (o->is_reachable || !is_reachable))
                return 0;
        where = strdup(e->target);
        fs_options = strdup(e->fs_options);
        if (where && fs_options && !o)
                o = make_other(u, e->device);
        if (!where || !fs_options || !o) {
                free(where);
                free(fs_options);
                return -ENOMEM;
        }
        other_done(o);
        *o = (OtherOverlay){ .device = e->device,
                             .fs_options = fs_options,
                             .where = where,
                             .pid = pid,
                             .is_reachable = is_reachable };
        return 0;
}

int layer_uses_note(LayerUses *u, const MountTable *t, pid_t pid) {
        for (size_t i = 0; i < t->n; i++) {
                const MountEntry *e = t->items + i;
                int r = 0;

                if (e->device == u->overlay->device)
                        r = e->root[0] == '/' ? add_place(u, e) : 0;
                else if (strcmp(e->type, "overlay") == 0)
                        r = add_other(u, t, e, pid);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* One search. */

typedef struct Find {
        const LayerUses *uses;
        InnerSearch *search;
        layer_use_func func;
        void *userdata;
} Find;

static bool is_hung(const InnerSearch *s, dev_t device) {
        for (size_t i = 0; i < s->n_hung; i++)
                if (s->hung[i] == device)
                        return true;
        return false;
}

static int remember_hung(InnerSearch *s, dev_t device) {
        if (!ARRAY_GROW(s->hung, s->n_hung))
                return -ENOMEM;
        s->hung[s->n_hung++] = device;
        return 0;
}

static int add_paths(LayerProbe *p, char *const *paths, bool is_read) {
        int r = 0;

        for (; paths && *paths && r >= 0; paths++)
                if (**paths == '/')
                        r = layer_probe_add(p, *paths, is_read);
        return r;
}

static int make_probe(Find *f, const OtherOverlay *other, const Overlay *layers, LayerProbe **ret) {
        char *const upper[] = { layers->upper, NULL }, *const work[] = { layers->work, NULL };
        LayerProbe *p;
        int r;

        if (f->search->fanotify_fd < 0)
                f->search->fanotify_fd = layer_probe_open();
        if (f->search->fanotify_fd < 0)
                return f->search->fanotify_fd;
        p = layer_probe_new(f->search->fanotify_fd);
        if (!p)
                return -ENOMEM;
        p->device = f->uses->overlay->device;
        p->other = other->device;
        p->mount_point = strdup(f->uses->overlay->mount_point);
        p->where = strdup(other->where);
        p->process = str_format("%s/%d", f->uses->proc ?: "/proc", (int) other->pid);
        r = p->mount_point && p->where && p->process ? 0 : -ENOMEM;
        if (r >= 0)
                r = add_paths(p, layers->lower, /* is_read= */ true);
        if (r >= 0)
                r = add_paths(p, layers->data, /* is_read= */ false);
        if (r >= 0)
                r = add_paths(p, upper, /* is_read= */ true);
        if (r >= 0)
                r = add_paths(p, work, /* is_read= */ false);
        if (r < 0)
                layer_probe_free(p);
        else
                *ret = p;
        return r;
}

static void forget_answers(InnerSearch *s) {
        uint64_t now = now_monotonic_usec();

        for (size_t i = s->n_answers; i-- > 0;) {
                if (now - s->answers[i].usec < ANSWER_USEC)
                        continue;
                answer_done(s->answers + i);
                s->answers[i] = s->answers[--s->n_answers];
        }
}

static const LayerProbe *find_answer(const InnerSearch *s, const OtherOverlay *other) {
        for (size_t i = 0; i < s->n_answers; i++) {
                const LayerAnswer *a = s->answers + i;

                if (a->device == other->device && strcmp(a->fs_options, other->fs_options) == 0 &&
                    strcmp(a->where, other->where) == 0)
                        return a->probe;
        }
        return NULL;
}

/* Takes p over. */
static int keep_answer(InnerSearch *s, const OtherOverlay *other, LayerProbe *p) {
        LayerAnswer a = { .device = other->device,
                          .fs_options = strdup(other->fs_options),
                          .where = strdup(other->where),
                          .usec = now_monotonic_usec(),
                          .probe = p };

        if (!ARRAY_GROW(s->answers, s->n_answers) || !a.fs_options || !a.where) {
                answer_done(&a);
                return -ENOMEM;
        }
        s->answers[s->n_answers++] = a;
        return 0;
}

/* *ret is NULL where the kernel cannot be asked. */
static int ask(Find *f, const OtherOverlay *other, const Overlay *layers, const LayerProbe **ret) {
        LayerProbe *p;
        int r;

        *ret = NULL;
        if (!f->search || is_hung(f->search, other->device))
                return 0;
        *ret = find_answer(f->search, other);
        if (*ret)
                return 0;
        r = make_probe(f, other, layers, &p);
        if (r < 0)
                return r == -ENOMEM ? r : 0;
        r = patience_call(&f->search->patience, layer_probe_run, p, layer_probe_free);
        if (r == -ETIMEDOUT)
                return remember_hung(f->search, other->device);
        if (r < 0) {
                layer_probe_free(p);
                return r == -ENOMEM || r == -ESRCH ? r : 0;
        }
        *ret = p;
        return keep_answer(f->search, other, p);
}

/* Relative to the overlay: NULL if it cannot be told, or there is no memory. */
static char *relative_path(const Find *f, const LayerPath *l) {
        for (size_t i = 0; l->path && i < f->uses->n_places; i++) {
                const OwnPlace *place = f->uses->places + i;
                const char *below =
                        place->id == l->mount_id ? path_startswith(l->path, place->target) : NULL;

                if (below)
                        return path_join(place->root, below);
        }
        return NULL;
}

static int tell(const Find *f, const OtherOverlay *other, const LayerPath *l, bool is_proven) {
        _cleanup_free_ char *path = relative_path(f, l);

        return f->func(
                &(LayerUse){ .other = other, .path = path, .inode = l->inode, .is_proven = is_proven },
                f->userdata);
}

static int tell_read(const Find *f, const OtherOverlay *other, const LayerProbe *p, ino_t inode) {
        for (size_t i = 0; i < p->n_paths; i++)
                if (p->paths[i].inode == inode && !p->paths[i].is_elsewhere)
                        return tell(f, other, p->paths + i, /* is_proven= */ true);
        return f->func(&(LayerUse){ .other = other, .inode = inode, .is_proven = true }, f->userdata);
}

/* Of a path that leads nowhere, only the end is known: where it began has changed, or nobody knows. */
static int tell_tail(const Find *f, const OtherOverlay *other, const char *given) {
        const char *tail = given;

        for (const char *p = given; *p; p += strcspn(p, "/"), p += strspn(p, "/"))
                if (p[0] == '.' && (strchr("/", p[1]) || (p[1] == '.' && strchr("/", p[2]))))
                        tail = p + strcspn(p, "/");
        tail += strspn(tail, "/");
        if (given[0] == '/') /* what was mounted on the way may have another name */
                tail = path_basename(tail);
        return f->func(&(LayerUse){ .other = other, .tail = tail }, f->userdata);
}

static int tell_tails(const Find *f, const OtherOverlay *other, char *const *paths) {
        int r = 0;

        for (; paths && *paths && r >= 0; paths++)
                if (**paths != '/')
                        r = tell_tail(f, other, *paths);
        return r;
}

/* Below any mount of the overlay in any namespace: who mounted it may have seen others than its users. */
static int tell_spelled(const Find *f, const OtherOverlay *other, const char *given) {
        _cleanup_free_ char *path = strdup(given);
        int r = 0;

        if (!path)
                return -ENOMEM;
        if (path_simplify(path) < 0)
                return 0;
        for (size_t i = 0; i < f->uses->n_places && r >= 0; i++) {
                const OwnPlace *place = f->uses->places + i;
                const char *below = path_startswith(path, place->target);
                _cleanup_free_ char *relative = below ? path_join(place->root, below) : NULL;

                if (below)
                        r = relative ? f->func(&(LayerUse){ .other = other, .path = relative }, f->userdata)
                                     : -ENOMEM;
        }
        return r;
}

/* What the kernel did not say, because somebody has listed the other overlay, or because no listing tells.
 */
static int
tell_not_read(const Find *f, const OtherOverlay *other, const Overlay *layers, const LayerProbe *p) {
        bool all_read = p->is_fresh || p->n_inodes > 0;
        int r = 0;

        for (size_t i = 0; i < p->n_paths && r >= 0; i++) {
                const LayerPath *l = p->paths + i;

                if (l->is_elsewhere || (l->is_read && all_read))
                        continue;
                if (l->inode != 0)
                        r = tell(f, other, l, /* is_proven= */ false);
                else
                        r = tell_spelled(f, other, l->given);
                if (r >= 0 && l->inode == 0 && l->is_read && p->has_witness)
                        r = tell_tail(f, other, l->given);
        }
        return r < 0 || all_read || !p->has_witness ? r : tell_tails(f, other, layers->lower);
}

static int tell_asked(const Find *f, const OtherOverlay *other, const Overlay *layers, const LayerProbe *p) {
        int r = 0;

        for (size_t i = 0; i < p->n_inodes && r >= 0; i++)
                r = tell_read(f, other, p, p->inodes[i]);
        return r < 0 ? r : tell_not_read(f, other, layers, p);
}

static int tell_unasked(const Find *f, const OtherOverlay *other, const Overlay *layers, bool is_readable) {
        char *const beside[] = { layers->upper, layers->work, NULL };
        char *const *const lists[] = { layers->lower, layers->data, beside };
        int r = is_readable ? 0 : tell_tail(f, other, "");

        for (size_t i = 0; i < ELEMENTSOF(lists) && r >= 0; i++) {
                for (char *const *s = lists[i]; s && *s && r >= 0; s++)
                        if (**s == '/')
                                r = tell_spelled(f, other, *s);
                if (r >= 0)
                        r = tell_tails(f, other, lists[i]);
        }
        return r;
}

static int find_one(Find *f, const OtherOverlay *other, bool is_last) {
        _cleanup_(overlay_freep) Overlay *layers = calloc(1, sizeof(Overlay));
        const LayerProbe *p = NULL;
        bool is_readable;
        int r;

        if (!layers)
                return -ENOMEM;
        layers->fs_options = strdup(other->fs_options);
        if (!layers->fs_options)
                return -ENOMEM;
        r = overlay_read_layers(layers);
        if (r == -ENOMEM)
                return r;
        is_readable = r >= 0;
        r = ask(f, other, layers, &p);
        if (r == -ESRCH && !is_last)
                return -EAGAIN;
        if (r >= 0 || r == -ESRCH)
                r = p ? tell_asked(f, other, layers, p) : tell_unasked(f, other, layers, is_readable);
        return r;
}

int layer_uses_find(
        const LayerUses *u, InnerSearch *search, bool is_last, layer_use_func func, void *userdata) {
        Find f = { .uses = u, .search = search, .func = func, .userdata = userdata };
        int r = 0;

        if (search)
                forget_answers(search);
        for (size_t i = 0; i < u->n_others && r >= 0; i++)
                r = find_one(&f, u->others + i, is_last);
        return r;
}
