/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where others of ours are at work. Where a job works watching pauses, and nothing is listed: marks cannot
 * be set on what is in use (mark/mark-pins.c). That goes for directories that are not known yet, too, hence
 * paths and not nodes. When one of ours only looks at something, it lists directories, and inotify cannot
 * tell that from their use: what it may be is not counted. It waits for nobody: others say when they begin
 * and when they are done. */
#include <limits.h>
#include <string.h>

#include "base/path-util.h"
#include "core/watch/watcher-internal.h"

struct WatcherPlace {
        WatcherPlace *next;
        bool with_parents; /* the directories above are marked, too: no entry of theirs may be in use */
        char path[];
};

static WatcherPlace **place_find(WatcherPlace **p, const char *path) {
        while (*p && strcmp((*p)->path, path) != 0)
                p = &(*p)->next;
        return p;
}

static int place_add(WatcherPlace **list, const char *path, bool with_parents) {
        WatcherPlace *place = malloc(sizeof(WatcherPlace) + strlen(path) + 1);

        if (!place)
                return -ENOMEM;
        *place = (WatcherPlace){ .next = *list, .with_parents = with_parents };
        strcpy(place->path, path);
        *list = place;
        return 0;
}

static void place_drop(WatcherPlace **p) {
        WatcherPlace *place = *p;

        if (!place)
                return;
        *p = place->next;
        free(place);
}

/* Whether both are in the same entry of the overlay's root, which is never marked itself. */
static bool is_same_top(const char *a, const char *b) {
        size_t n = strcspn(a, "/");

        return n == strcspn(b, "/") && strncmp(a, b, n) == 0;
}

bool watcher_is_paused(const Watcher *w, const char *path) {
        for (const WatcherPlace *p = w->pauses; p; p = p->next)
                /* Whoever lists a directory uses all above it. */
                if (path_startswith(path, p->path) || (p->with_parents && is_same_top(path, p->path)))
                        return true;
        return false;
}

/* What was counted there was not users, and its watch is to be looked after. */
static void set_paused(Watcher *w, WatchNode *n, bool is_paused) {
        watch_node_discount(n);
        n->is_near = true;
        if (n->wd >= 0)
                (void) inotify_rm_watch(w->inotify_fd, n->wd);
        watch_node_set_wd(w, n, -1);
        n->is_new = true;
        n->was_watched_this_rotation = false;
        n->is_paused = is_paused;
}

static void set_paused_below(Watcher *w, WatchNode *n, bool is_paused) {
        set_paused(w, n, is_paused);
        for (WatchNode *c = n->children; c; c = c->next)
                set_paused_below(w, c, is_paused);
}

/* Those above it, and their entries. */
static void set_paused_parents(Watcher *w, WatchNode *n, bool is_paused) {
        for (; n && n->parent; n = n->parent) {
                set_paused(w, n, is_paused);
                for (WatchNode *c = n->children; c; c = c->next)
                        set_paused(w, c, is_paused);
        }
}

static void set_paused_at(Watcher *w, const char *path, bool with_parents, bool is_paused) {
        bool is_above;
        WatchNode *n = watch_node_nearest(w, path, &is_above);

        if (is_above)
                n->is_near = true; /* its events have told already that something has taken its place */
        else
                set_paused_below(w, n, is_paused);
        if (with_parents)
                set_paused_parents(w, is_above ? n : n->parent, is_paused);
}

int watcher_pause(Watcher *w, const char *path, bool with_parents) {
        int r;

        place_drop(place_find(&w->pauses, path));
        r = place_add(&w->pauses, path, with_parents);
        if (r >= 0)
                set_paused_at(w, path, with_parents, /* is_paused= */ true);
        return r;
}

void watcher_resume(Watcher *w, const char *path) {
        WatcherPlace **p = place_find(&w->pauses, path);
        bool with_parents = *p && (*p)->with_parents;

        place_drop(p);
        set_paused_at(w, path, with_parents, /* is_paused= */ false);
}

static bool place_concerns(const WatcherPlace *place, const char *path) {
        return path_startswith(path, place->path) || path_startswith(place->path, path);
}

bool watcher_is_looked_at(const Watcher *w, const WatchNode *n) {
        char path[PATH_MAX];

        if (!w->looks || watch_node_path(n, path) < 0)
                return false;
        for (const WatcherPlace *look = w->looks; look; look = look->next)
                if (place_concerns(look, path))
                        return true;
        return false;
}

int watcher_look(Watcher *w, const char *path) {
        int r = place_add(&w->looks, path, /* with_parents= */ false);

        if (r < 0)
                return r;
        /* It has begun already, and what it has done may have been read before we were told. */
        for (WatchNode *n = w->used; n; n = n->next_used)
                if (n->n_listed > 0 && watcher_is_looked_at(w, n))
                        n->n_listed = 0;
        return 0;
}

void watcher_looked(Watcher *w, const char *path) {
        place_drop(place_find(&w->looks, path));
}

void watcher_places_free(Watcher *w) {
        while (w->pauses)
                place_drop(&w->pauses);
        while (w->looks)
                place_drop(&w->looks);
}
