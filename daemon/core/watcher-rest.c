/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where jobs work, nothing is watched or listed: marks cannot be set on what is in use (mark-pins.c). What
 * is not known yet rests as well, hence paths and not nodes. */
#include <string.h>

#include "base/path-util.h"
#include "core/watcher-internal.h"

struct WatcherRest {
        WatcherRest *next;
        bool with_parents; /* the directories above are marked, too: no entry of theirs may be in use */
        char path[];
};

static WatcherRest **rest_find(Watcher *w, const char *path) {
        WatcherRest **p = &w->rests;

        while (*p && strcmp((*p)->path, path) != 0)
                p = &(*p)->next;
        return p;
}

static void rest_drop(WatcherRest **p) {
        WatcherRest *rest = *p;

        if (!rest)
                return;
        *p = rest->next;
        free(rest);
}

/* Whether both are in the same entry of the overlay's root, which is never marked itself. */
static bool is_same_top(const char *a, const char *b) {
        size_t n = strcspn(a, "/");

        return n == strcspn(b, "/") && strncmp(a, b, n) == 0;
}

bool watcher_rests(const Watcher *w, const char *path) {
        for (const WatcherRest *rest = w->rests; rest; rest = rest->next)
                /* Whoever lists a directory uses all above it. */
                if (path_startswith(path, rest->path) ||
                    (rest->with_parents && is_same_top(path, rest->path)))
                        return true;
        return false;
}

/* What was counted there was not users, and its watch is to be looked after. */
static void rearm_one(Watcher *w, WatchNode *n, bool rests) {
        n->n_opens = 0;
        n->is_near = true;
        if (n->wd >= 0)
                (void) inotify_rm_watch(w->inotify_fd, n->wd);
        watch_node_set_wd(w, n, -1);
        n->is_new = true;
        n->had_turn = false;
        n->is_resting = rests;
}

static void rearm_below(Watcher *w, WatchNode *n, bool rests) {
        rearm_one(w, n, rests);
        for (WatchNode *c = n->children; c; c = c->next)
                rearm_below(w, c, rests);
}

/* Those above it, and their entries. */
static void rearm_parents(Watcher *w, WatchNode *n, bool rests) {
        for (; n && n->parent; n = n->parent) {
                rearm_one(w, n, rests);
                for (WatchNode *c = n->children; c; c = c->next)
                        rearm_one(w, c, rests);
        }
}

static void rearm(Watcher *w, const char *path, bool with_parents, bool rests) {
        bool is_above;
        WatchNode *n = watch_node_nearest(w, path, &is_above);

        if (is_above)
                n->is_near = true; /* its events have told already that something has taken its place */
        else
                rearm_below(w, n, rests);
        if (with_parents)
                rearm_parents(w, is_above ? n : n->parent, rests);
}

int watcher_rest(Watcher *w, const char *path, bool with_parents) {
        WatcherRest *rest = malloc(sizeof(WatcherRest) + strlen(path) + 1);

        if (!rest)
                return -ENOMEM;
        rest_drop(rest_find(w, path));
        *rest = (WatcherRest){ .next = w->rests, .with_parents = with_parents };
        strcpy(rest->path, path);
        w->rests = rest;
        rearm(w, path, with_parents, /* rests= */ true);
        return 0;
}

void watcher_rearm(Watcher *w, const char *path) {
        WatcherRest **p = rest_find(w, path);
        bool with_parents = *p && (*p)->with_parents;

        rest_drop(p);
        rearm(w, path, with_parents, /* rests= */ false);
}

void watcher_rests_free(Watcher *w) {
        while (w->rests)
                rest_drop(&w->rests);
}
