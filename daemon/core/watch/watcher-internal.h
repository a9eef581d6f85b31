/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the parts of the watcher share: watcher.c (events, times, the loop), watcher-tree.c (the directories
 * it knows), watcher-walk.c (listing and watching them), watcher-pause.c (where others of ours are at work),
 * watcher-opens.c (which opens count). */
#pragma once

#include <sys/inotify.h>
#include <uthash.h>

#include "base/glob.h"
#include "core/watch/watcher.h"

typedef struct WatchNode WatchNode;
typedef struct WatcherPlace WatcherPlace;
typedef struct WatchOpens WatchOpens;

/* A directory: one that matches, or that has to be gone through. */
struct WatchNode {
        UT_hash_handle by_name, by_wd;
        WatchNode *children, *next; /* siblings */
        WatchNode *next_used;       /* of those with opens to be told */
        GlobState states;           /* 0: only on the way to another one */
        int wd;                     /* -1 none */
        WatchOpens *opens;          /* what has been opened in it, NULL nothing lately */
        uint32_t n_opens;           /* of files in it, not told yet */
        uint32_t n_counted;         /* those of them that count */
        uint32_t n_listed; /* of the directory itself; whether they count is decided when they are told */
        uint32_t warmth;   /* opens, halved with every walk */
        uint32_t visit;    /* number of the listing of its parent that showed it last */
        bool is_new : 1;   /* not visited yet */
        bool is_near : 1;  /* something below it is used: look for new siblings of that */
        bool is_used : 1;  /* in the list of next_used */
        bool was_watched_this_rotation : 1; /* where watches are short: it has had one since all others had
                                             */
        bool is_paused : 1;                 /* as the last look at it said, see watcher_is_paused() */
        bool is_gone : 1;                   /* waits to be freed */
        /* The key of by_name, in one piece. */
        WatchNode *parent;
        char name[];
};

typedef struct Watcher {
        const WatcherConfig *config;
        Globs want, exclude;
        int inotify_fd, root_fd;
        WatchNode *by_name, *by_wd;
        WatchNode **nodes; /* parents before children */
        size_t n_nodes, n_room, n_gone;
        size_t cursor; /* the next to be visited; n_nodes: the walk is over */
        uint32_t n_walks, n_visits;
        size_t round_begin, round_end; /* directories that a walk goes to because it is their turn */
        bool want_walk;                /* again, after the one under way */
        WatchNode *visiting;           /* our own opening of it is not to be counted */
        WatchNode *used, **used_end;
        WatcherPlace *pauses, *looks; /* see watcher-pause.c */
        uint64_t n_watches, n_overflows;
        uint64_t n_limit;     /* watches we may have: MaxWatches=, or what the kernel gives */
        bool is_kernel_limit; /* fs.inotify.max_user_watches */
        bool is_tight;        /* directories take turns */
        bool has_events;      /* since the last walk */
        bool was_busy;
        uint64_t now_usec;                                                  /* when events were last read */
        uint64_t drain_usec, tell_usec, visit_usec, walk_usec, status_usec; /* monotonic; not before */
        uint64_t walk_pause_usec;
} Watcher;

/* watcher-tree.c */
/* A child, made when it is not known yet, unless it is excluded (*ret NULL). */
int watch_node_get(Watcher *w, WatchNode *parent, const char *name, GlobState states, WatchNode **ret);
WatchNode *watch_node_find(const Watcher *w, WatchNode *parent, const char *name);
WatchNode *watch_node_find_wd(const Watcher *w, int wd);
/* The directory at path with all above it, made when they are not known yet. */
int watch_node_make_path(Watcher *w, const char *path, GlobState states);
/* The nearest known one at or above path. */
WatchNode *watch_node_nearest(const Watcher *w, const char *path, bool *ret_is_above);
/* Path relative to the overlay's root. -ENAMETOOLONG. */
int watch_node_path(const WatchNode *n, char ret[PATH_MAX]);
void watch_node_set_wd(Watcher *w, WatchNode *n, int wd);
/* It and all below it are no more. */
void watch_node_drop(Watcher *w, WatchNode *n);
/* A file in it has been opened; name "": the directory itself. */
void watch_node_count(Watcher *w, WatchNode *n, const char *name);
/* Forgets what has not been told. */
void watch_node_discount(WatchNode *n);
/* Frees what has been dropped. Between walks only. */
void watch_nodes_compact(Watcher *w);
void watch_nodes_free(Watcher *w);
static inline bool watch_node_matches(const Watcher *w, const WatchNode *n) {
        return globs_is_match(&w->want, n->states);
}

/* watcher-pause.c */
/* A job works at path and below, and with_parents marks the directories above. -ENOMEM. */
int watcher_pause(Watcher *w, const char *path, bool with_parents);
/* The job has ended, and what is there may be another directory. */
void watcher_resume(Watcher *w, const char *path);
/* Whether listing or watching the directory at path may be in a job's way. */
bool watcher_is_paused(const Watcher *w, const char *path) _pure_;
/* Others of ours look at what is at path: they list it, what is below it and the directories above it, and
 * that is no use of these. As often as it is begun it has to end. -ENOMEM. */
int watcher_look(Watcher *w, const char *path);
void watcher_looked(Watcher *w, const char *path);
/* Whether it may have been one of ours who has just listed the directory. */
bool watcher_is_looked_at(const Watcher *w, const WatchNode *n);
void watcher_places_free(Watcher *w);

/* watcher-opens.c */
/* Something in a directory has been opened. Of one pass through it, where many different files are opened
 * once each, next to nothing counts, whoever makes it: in a window, only the two names that are opened most
 * do. Whether this one counts. *o is NULL at first, and freed by watch_opens_free(). n_tables: how many of
 * them there may be; the more, the fewer names each one remembers, so that memory is bounded. */
bool watch_opens_count(
        WatchOpens **o, const char *name, size_t n_tables, uint64_t now_usec, uint64_t window_usec);
/* NULL when the window is over, else o. */
WatchOpens *watch_opens_expire(WatchOpens *o, uint64_t now_usec, uint64_t window_usec);
WatchOpens *watch_opens_free(WatchOpens *o);

/* watcher-walk.c */
/* The overlay's root, if it still is the overlay we were started for, else -ENODEV. Open while some
 * directories are visited, through a mount of its own. */
int watcher_open_root(Watcher *w);
/* Lists a directory and watches it. Gone directories are no error. */
int watcher_visit(Watcher *w, WatchNode *n);
/* Takes watches from some of the unused directories when others have none, for the next walk to give away.
 */
void watcher_share_watches(Watcher *w);
/* Whether a walk goes to n before its turn. */
static inline bool watcher_needs_visit(const Watcher *w, const WatchNode *n) {
        return n->is_new || n->is_near ||
                (n->wd < 0 && !n->was_watched_this_rotation && w->n_watches < w->n_limit);
}
