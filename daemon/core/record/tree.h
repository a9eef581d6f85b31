/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A directory tree as it was last synchronised: which names each directory held, and which inodes of the
 * upper they were. It compares nothing and touches no file. A name of the lower is not forgotten when it
 * goes: it stays as deleted (DT_WHT), unless the lower has lost it, too (entry_forget()). */

/* The exchange, its reconciliation, the undo and the recovery after a crash all compare the world with such
 * a tree. Written to a file (manifest.h) it is the snapshot of a running exchange and the record of a
 * finalized directory. */
#pragma once

#include <pthread.h>
#include <sys/types.h>
#include <time.h>
#include <uthash.h>

#include "base/path-util.h"

typedef struct Node Node;
typedef struct Tree Tree;

/* In place of a change time: neither that nor what xattrs the lower had was recorded. */
#define CTIME_OF_OLD_RECORD UINT64_MAX
/* In its place while the entry is removed from the upper, as the lower has removed it: where that is
 * missing, it is missing because of us, and nobody has deleted it. */
#define CTIME_BEING_REMOVED (UINT64_MAX - 1)

/* A name in a directory. type DT_WHT: a lower name that is deleted; undo must keep it deleted. */
typedef struct Entry {
        UT_hash_handle hh;
        Node *dir;          /* DT_DIR: what stands below */
        uint64_t inode;     /* in the upper file system; of a directory: the old one's */
        uint64_t base;      /* digest of what the lower showed when it was finalized; digest.h; 0 unknown */
        uint64_t xattrs;    /* digest of the xattrs it had then, 0 unknown */
        uint64_t ctime;     /* of the lower entry then, in nanoseconds; 0 unknown, or not to be relied upon;
                               CTIME_OF_OLD_RECORD, CTIME_BEING_REMOVED */
        uint64_t identity;  /* hash of the file handle, which inode numbers reused later do not share
                               (docs/overlayfs.md 4.6); 0 unknown */
        uint64_t written;   /* digest of its line in tree->file; 0: that has none of it */
        unsigned char type; /* DT_ value */
        bool is_local;  /* surely no name of the lower: the lower was asked, or it came while the directory
                           was pure, or being rebuilt */
        bool is_placed; /* stands in the new tree */
        bool is_seen;   /* scratch of a comparison */
        bool is_gone;   /* from the old tree: it is to leave the new one */
        unsigned char n_tries; /* to put it into the new tree, since something happened to its name */
        uint64_t aside; /* inode of what the old tree has by that name, and the new one no place for; 0 */
        char name[];
} Entry;

/* Names of a directory that may differ from what is known. */
typedef struct Changes {
        bool all; /* every name */
        char **names;
        unsigned n;
} Changes;

struct Node {
        UT_hash_handle hh_watch, hh_old;
        Node *dirty_prev, *dirty_next; /* in tree->dirty */
        Node *gone_prev, *gone_next;   /* in tree->gone */
        unsigned dirty_level;
        bool is_dirty, has_gone; /* whether it stands in these */
        Tree *tree;
        Node *parent;                  /* NULL: the root, or detached */
        Entry *entry;                  /* in the parent; NULL for the root */
        Entry *entries;                /* by name */
        char *lower;                   /* lower path, NULL for a directory without lower counterpart */
        char *lower_identity;          /* lower_identify() of lower; NULL: that of a parent says as much */
        uint64_t base;                 /* digest_directory() of lower then; 0 unknown, BASELINE_IN_TRANSIT */
        char *old_handle, *new_handle; /* file handles in the upper */
        uint64_t old_inode, new_inode;
        uint64_t written; /* digest of its lines in tree->file, entries aside; 0: that has none of it */
        PathList erased;  /* names that tree->file has, and that are gone since */
        struct timespec
                mtime; /* of the old directory when it was watched, before anything in it was copied up */
        int watch;     /* inotify descriptor, -1 none */
        unsigned quarantine;      /* detached: its name in the quarantine */
        bool is_merged;           /* the old directory has a lower part */
        Changes changes;          /* what to compare again */
        bool is_deferred;         /* it was not where it was: compare again when its parents have been */
        bool is_attributes_dirty; /* owner, mode, xattrs and times are still to be copied to the new
                                     directory */
        bool is_times_dirty;      /* only its times are, because names in the old one have changed */
        bool has_new_names;       /* of an undo: the lower has gained names, which show from now on */
        bool is_touched;          /* somebody changed names or attributes since mtime was read */
        bool is_removed;          /* the old directory is gone */
        char *blocked;            /* why this directory cannot be exchanged */
        int blocked_state;        /* DirectoryState that goes with it */
        int blocked_error;        /* positive errno, 0 if it was none */
};

/* A directory of the old tree that was copied up with all it holds, and stands nowhere in the tree by now.
 */
typedef struct Known Known;

/* The manifest to which changes of a tree are appended. */
typedef struct TreeFile {
        size_t size;  /* up to here it is as it was written; 0: there is none to append to */
        size_t whole; /* of that, what was written at once */
        uint64_t sum; /* with which it ends; it stands for all before */
} TreeFile;

struct Tree {
        pthread_mutex_t lock; /* the maps and the counters, while a pool works on the tree */
        Node *root;
        Node *by_watch, *by_old; /* by_old: by old_inode */
        Node *detached;          /* singly linked through parent */
        Node **dirty;            /* those to be compared, by depth when they were noted */
        unsigned n_dirty_levels;
        Node *gone;   /* those with entries that are to leave the new tree */
        Known *known; /* by handle */
        char *path;   /* of the root, relative to the overlay's root, when the work began */
        char *upper;  /* file handle of the root of the upper it stands on */
        char *id;     /* 16 hex digits; names staging and record */
        bool is_undo;
        uint64_t usec; /* realtime */
        uint64_t n_nodes, n_entries;
        TreeFile file;
};

int tree_new(const char *path, const char *id, bool is_undo, Tree **ret);
Tree *tree_free(Tree *t);
DEFINE_CLEANUP(Tree *, tree_free);

/* Adds name to n; for DT_DIR with a new Node below it. -EEXIST. Thread-safe as long as one thread works on
 * n. */
int node_add(Node *n, const char *name, unsigned char type, Entry **ret);
/* The same for what came after the lower's names had been listed: it is local, unless it stands where one of
 * them was deleted. */
int node_add_late(Node *n, const char *name, unsigned char type, Entry **ret);
Entry *node_find(const Node *n, const char *name);
/* Goes down from n as far as directories are known; what is left of the path is *rest then. */
Node *node_reach(Node *n, const char *path, const char **rest);
/* Every entry of a directory; it may be dropped. */
#define ENTRY_FOREACH(n, e)                                                                                 \
        for (Entry *e = (n)->entries, *next_ = NULL; e && (next_ = e->hh.next, true); e = next_)
/* What stood there, and everything below it, is gone. A name that is not local stays, as DT_WHT; otherwise e
 * is freed. */
void entry_drop(Node *n, Entry *e);
/* Its ctime, 0 in place of CTIME_BEING_REMOVED: what is to be set should it stay. */
uint64_t entry_ctime(const Entry *e) _pure_;
/* Drops e, and its name: the lower has it no more. */
void entry_forget(Node *n, Entry *e);
/* It or the nearest one above that has an identity of lower directories; the root if there is none. */
const Node *node_find_identity(const Node *n) _pure_;
/* Path relative to the tree's root, "" for it. Owned by the caller; NULL on out of memory or for a detached
 * node. */
char *node_path(const Node *n);
/* A name in the old directory changed. Many of them make the whole directory dirty. */
void node_note_change(Node *n, const char *name);
static inline bool node_has_changes(const Node *n) {
        return n->changes.all || n->changes.n > 0;
}
/* Every name may have changed. Thread-safe. */
void node_recheck(Node *n);
/* One with changes, parents before children. NULL: there is none. */
Node *tree_next_dirty(Tree *t);
/* An entry of n is gone. */
void node_note_gone(Node *n, Entry *e);
/* One of those, which is none of them any more. */
Node *tree_next_gone(Tree *t);
/* Takes what was noted so far; what is noted from now on is the next comparison's. */
Changes node_take_changes(Node *n);
void changes_done(Changes *c);
void node_set_watch(Node *n, int watch);
void node_set_old_inode(Node *n, uint64_t inode);
Node *tree_find_watch(Tree *t, int watch);
Node *tree_find_old(Tree *t, uint64_t inode);
/* Takes the node out of its parent, keeps it findable by old inode. The entry is dropped, as by
 * entry_drop(). */
void node_detach(Node *n);
/* The old directory with this handle goes on being known when n stands for another one. */
int tree_note_known(Tree *t, const char *handle);
bool tree_is_known(const Tree *t, const char *handle);
/* Forgets a detached node. */
void tree_drop_detached(Tree *t, Node *n);
/* Puts a node (detached or not) under another parent as name. -EEXIST, unless what stood there is gone. */
int node_attach(Node *n, Node *parent, const char *name);
/* Deferred nodes are to be compared again. Returns whether any node is to be compared, or has
 * attributes to be copied. */
bool tree_resume_deferred(Tree *t);
/* Every attached node, parents before children; stops at a negative return. */
typedef int (*node_func)(Node *n, void *userdata);
int tree_foreach(Tree *t, node_func func, void *userdata);
/* The same at and below n. */
int node_foreach(Node *n, node_func func, void *userdata);
/* All attached nodes, parents before children. Owned by the caller, the nodes are not. */
int tree_list(Tree *t, Node ***ret, size_t *ret_n);
