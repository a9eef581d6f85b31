/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the parts of the exchange share. Before it: scan.c and build.c (the new tree), undo.c (the raw part
 * of an undo), watch.c and sync.c (changes in the old tree, and bringing the new one in line), settle.c and
 * occupants-wait.c (waiting). Then swap.c (the exchange itself). After it: reconcile.c (what ended up in the
 * old tree is done again), retire.c, quarantine.c and layer-hold.c (the end of the old tree). Others use
 * exchange.h; core/job/recover.c goes on after a crash. */
#pragma once

#include "core/context/batch.h"
#include "core/context/error-scope.h"
#include "core/context/staging.h"
#include "core/exchange/exchange.h"
#include "core/lower/lower.h"
#include "core/upper/directory-pair.h"

/* What a step before the exchange ends in when something changed that only another tree can take up: that is
 * built then. A call that says EAGAIN has the same effect. It is an errno, for the last attempt is told as
 * one. */
enum { EXCHANGE_ANEW = -EAGAIN };

typedef enum ExchangePhase {
        PHASE_BUILD,     /* the new tree is in staging, where nobody reaches it */
        PHASE_EXCHANGED, /* the new tree is in effect */
        PHASE_REMOVE,    /* the old tree is being removed */
        PHASE_FINAL,
} ExchangePhase;

struct Exchange {
        Context *context;
        Batch batch;
        const Records *records;
        WorkResult *result; /* NULL after a recovery */
        Tree *tree;
        Staging staging;
        Lower lower; /* what is recorded of it; not open where it cannot be looked at, or for an undo */
        ExchangePhase phase;
        DirectoryPair parent, old, new; /* around the directory; roots of the two trees */
        char *name;                     /* of the directory, in parent */
        /* Where the old tree may stand: beside its directory instead of in staging. */
        struct {
                char *name;    /* in parent; OLD_TREE_PREFIX + id */
                bool is_there; /* it does */
                bool is_noted; /* that it may */
        } beside;
        bool has_occupants; /* somebody stands in the directory */
        int inotify_fd;
        uint64_t changed_usec; /* monotonic; when a name last changed */
        bool has_moved;        /* the directory itself was renamed or removed */
        /* What holds while the old tree is kept: who has it, and what was told of it. */
        struct {
                bool was_used;  /* somebody stood in the old tree, or changed it after the exchange */
                bool is_theirs; /* it is for those who stand in it: a removal there is theirs, and is not
                                   repeated in the new tree */
                bool has_told_removals; /* that there were some */
                bool is_final_look;     /* what the new tree had no place for is tried once more */
                uint64_t occupied_usec; /* monotonic; when somebody was last found in it; 0 nobody */
                bool may_be_shown;      /* a layer above came in the moment of the exchange; layer-hold.c */
                uint64_t layer_usec;    /* monotonic; when it was last found to be a layer, 0 it is none */
                unsigned n_uncompared_looks; /* one after the other, that had to wait for a comparison */
                bool has_told_failure;       /* that it cannot be removed */
        } kept;
        bool is_resumed; /* after a crash: events of before are lost, so all is compared; names that are
                            missing in PHASE_REMOVE were removed by the worker that was killed */
        bool has_manifest, is_manifest_stale, is_record_stale;
        bool has_built; /* the first scan is over */
        char *stale;    /* lower path of an entry that answered ESTALE; under the lock of batch */
};

/* Records the first fatal error of any thread; the others stop at the next step. */
void exchange_fail(Exchange *x, int r, const Node *n, const char *name, const char *what);
/* An error of a system call on n or its entry name: blocks n if it belongs to that one alone, and returns
 * RESULT_BLOCKED; else it fails as above, and returns r. dfd: n's directory, for name; -EBADF where there is
 * none.
 */
int exchange_error(Exchange *x, ErrorCall call, int r, Node *n, int dfd, const char *name, const char *what);
/* The error of exchange_fail(), or -ECANCELED, or 0. */
int exchange_outcome(Exchange *x, Failure *reterr);
void node_block(Node *n, DirectoryState state, const char *format, ...) _printf_(3, 4);
/* Path of a directory of the tree, relative to the overlay's root; of an entry in it with name. For
 * messages. */
char *exchange_node_path(const Exchange *x, const Node *n, const char *name);
/* The directory of n below the root of a tree: -ENOMEM, also for a node that is detached, or what opening
 * says. */
int node_open(const Node *n, int root_fd);
int node_open_pair(const Node *n, DirectoryPair root, DirectoryPair *ret);
/* Its old directory, which may have given its path to another one: -ENOENT. */
int node_open_old(const Exchange *x, const Node *n, DirectoryPair *ret);
/* Has a thread of the pool call func, unless all are to stop by then. */
typedef void (*node_task_func)(Exchange *x, Node *n);
int exchange_submit(Exchange *x, Node *n, node_task_func func);

/* watch.c */
int watch_open(Exchange *x);
int watch_add(Exchange *x, Node *n, int fd);
/* Reads what is queued, marks nodes. 1: something changed, 0: nothing. */
int watch_drain(Exchange *x);
/* Waits for an event, at most timeout_msec. 1: there are some, 0: none. */
int watch_wait(Exchange *x, int timeout_msec);

/* scan.c */
int build_scan(Exchange *x); /* watches, lists and makes every directory */
/* A directory that appeared later, and what is in it; in this thread. */
int build_late(Exchange *x, Node *n);

/* build.c */
int build_place(Exchange *x);         /* links every entry */
int place_late(Exchange *x, Node *n); /* the entries of one directory, and the directories below */
/* Puts back the modification times of old directories that parallel copy-ups have disturbed. */
void build_restore_times(Exchange *x);
int build_copy_attributes(Exchange *x); /* owner, mode, xattrs, inode flags, times of what needs them */
/* What no event has told of: once more before the exchange. RESULT_BLOCKED: something is blocked. */
int build_copy_attributes_late(Exchange *x);
/* raw-list.c */
/* A raw listing of an old directory: what the upper holds. */
typedef struct RawEntry {
        uint64_t inode;
        unsigned char type; /* DT_WHT for a whiteout */
        char name[NAME_MAX + 1];
} RawEntry;

typedef struct RawList {
        RawEntry *items;
        size_t n, room;
} RawList;

int raw_list_read(int upper_dfd, RawList *ret);
/* Only the names that changed. */
int raw_list_changes(int upper_dfd, const Changes *c, RawList *ret);
void raw_list_done(RawList *l);
/* The node for the old directory that stands as name in upper_dfd, or NULL. Inode numbers are not enough:
 * the number of a removed directory is soon another one's. */
Node *tree_find_old_at(Tree *t, int upper_dfd, const RawEntry *raw);
/* upper_fd: the root. */
bool is_handle_gone(int upper_fd, const char *handle);
bool is_handle_at(int upper_dfd, const char *name, const char *handle);
/* Hash of the file handle of an upper entry, 0 where there is none. */
uint64_t entry_identity(int upper_dfd, const char *name);

/* One directory of the tree, on both sides. */
typedef struct Sides {
        Exchange *x;
        Node *node;
        DirectoryPair old, new;
        Changes changes; /* names to be compared, */
        RawList list;    /* and what the old directory has of them */
} Sides;

#define SIDES_INIT(x_, n_)                                                                                  \
        { .x = (x_), .node = (n_), .old = DIRECTORY_PAIR_INIT, .new = DIRECTORY_PAIR_INIT }
void sides_done(Sides *s);

/* scan.c: whether e of n, which was listed as a name that the upper does not hold, was removed and made anew
 * meanwhile: no copy of the lower's. dfd, name: what the upper holds now. To be asked before the inode is
 * noted, which tells that it was listed so. May ask the lower. */
bool was_made_meanwhile(const Exchange *x, const Node *n, const Entry *e, int dfd, const char *name);

/* build.c: links one entry into the new directory. 0 placed, or it changed meanwhile and is to be compared
 * again, RESULT_BLOCKED blocked. copy_up: first, if it is not in the upper yet; not of what somebody may be
 * making just now, for its access time is written back. */
int place_entry(Sides *s, Entry *e, bool copy_up);

/* sync.c: brings the new tree in line with what changed in the old one since. RESULT_BLOCKED, EXCHANGE_ANEW.
 */
int sync_dirty(Exchange *x);

/* reconcile.c: the same after the exchange, towards a tree that others use. */
int reconcile_dirty(Exchange *x);
int reconcile_events(Exchange *x); /* takes up what is queued, and what had to wait */
int reconcile_all(Exchange *x);    /* every directory, whether an event told of it or not */

/* quarantine.c: taking entries out of trees that others use */
bool is_as_placed(int upper_dfd, const char *name, const Entry *e);
/* Moves dfd/name, which was n/as, to kept/ and tells. 0 when it is not there any more. */
int move_to_kept(Exchange *x, int dfd, const char *name, const Node *n, const char *as, const char *why);
/* Puts an entry of the quarantine where it came from; moves it to kept/ if that place is taken. */
int quarantine_restore(
        Exchange *x, const char *quarantine, int dfd, const Node *n, const char *name, const char *why);
/* Takes e out of d if it is still what was put there; anything else stays. 1 taken away, 0 not ours any
 * more. */
int take_out(Exchange *x, DirectoryPair d, const Node *n, const Entry *e);
/* Takes out of the new directory e what was placed there. The directory itself is removed too if nothing
 * else is in it. */
int take_out_directory(Exchange *x, DirectoryPair around, Entry *e);
/* Deletes what is left there and in the tree, so provably ours; in the end, anything else moves to kept/. */
int quarantine_clear(Exchange *x, bool is_final);

/* layer-hold.c: other overlays that have the old tree for a layer */
/* Of these, one that has a directory of the old tree; NULL: none. */
int layer_hold_find(
        const Exchange *x, const OverlayInnerMount *items, size_t n, const OverlayInnerMount **ret);
int layer_hold_begin(Exchange *x); /* right after the exchange */
/* 1: the old tree has to stay; that is told. */
int layer_hold_look(Exchange *x);

/* undo.c: raw edits of a tree that was never looked up. */
int undo_make_directory(Exchange *x, Node *n);

/* exchange-object.c */
Exchange *exchange_new(Context *context);
/* 0 when no directory of the tree is blocked, else RESULT_BLOCKED with x->result filled. */
int exchange_check_blocked(Exchange *x);

/* settle.c */
void settle_begin(Exchange *x); /* finds out when names changed last, before we watched */
int settle(Exchange *x, Failure *reterr);
/* One round towards "in line and nothing in the queue". 1: there. 0: once more. */
int settle_once(Exchange *x);
int exchange_save(Exchange *x, bool sync);
/* Raises this thread's priority; the argument of priority_restore(). */
int priority_raise(void);
void priority_restore(int before);

/* occupants-wait.c */
/* Waits until nobody stands in the directory at path who is to be waited for. x: what is built for it by
 * now, which follows what happens there meanwhile; NULL nothing. FAILURE_BUSY: nobody has asked for the job,
 * so it is not waited. */
int exchange_wait_for_occupants(Context *context, const char *path, Exchange *x, Failure *reterr);
/* 1: somebody is to be waited for, who came since. */
int exchange_check_occupants(Exchange *x);
/* Whoever entered between the last look and the exchange stands in the old tree: he cannot be waited for any
 * more, and to exchange back would take away what others have made in the new one since. It is kept for him
 * too. */
int exchange_note_late_occupants(Exchange *x);

/* swap.c */
typedef enum Exchanged {
        EXCHANGED_DONE,
        EXCHANGED_NOT_YET, /* the trees are not in line */
        EXCHANGED_HELD_UP, /* somebody came who is to be waited for */
} Exchanged;

/* An Exchanged other than EXCHANGED_NOT_YET, or an error. */
int exchange_now(Exchange *x, Failure *reterr);
int exchange_move_beside(Exchange *x);
