/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between the files of the search for users only: blockers.c (the order of the search), blockers-places.c
 * (mounts and layers), blockers-fds.c (descriptors), blockers-sockets.c (sockets and locks that nobody is
 * known to have), search.c (what was found). Others use blockers.h. What is found is added by search_add()
 * alone, so that nothing is listed twice. */
#pragma once

#include <limits.h>

#include "base/path-util.h"
#include "base/patience.h"
#include "base/proc-scan.h"
#include "core/users/blockers.h"

/* A mount of the overlay, or one upon a directory of it, in any mount namespace. */
typedef struct Place {
        int id;          /* of the mount, unique on the machine */
        bool is_overlay; /* else another file system, which covers what is below */
        bool is_ours;    /* in the namespace of the caller */
        bool follows;    /* what happens to the overlay's own mount will happen to this one */
        char *namespace; /* as the link /proc/PID/ns/mnt spells it; "" for a detached mount */
        char *target;    /* mount point, from the root of the namespace */
        char *root;      /* what is shown there, relative to the overlay's root */
        pid_t pid;       /* a process of the namespace */
} Place;

typedef struct Places {
        Place *items;
        size_t n;
        bool is_detached; /* the overlay's own mount is in no namespace any more */
} Places;

int places_load(const Overlay *o, const char *proc, Places *ret);
void places_done(Places *p);
/* The mount of the overlay of that id, or NULL. */
const Place *places_find(const Places *p, int id) _pure_;
/* A path below the mount point of place, relative to the overlay. NULL: it does not lie below, or -ENOMEM in
 * errno. */
char *place_relative(const Place *place, const char *path);
/* Whether a path of a namespace leads to the overlay: 1 and the path relative to it, 0, -ENOMEM. */
int places_resolve(const Places *p, const char *namespace, const char *path, char **ret);

/* Unix sockets with a name in a file system. */
typedef struct BoundSocket {
        ino_t inode;        /* of the socket itself */
        char *path;         /* as it was given to bind() */
        bool is_on_overlay; /* as the kernel says; else the path is to be looked at */
        bool is_seen;       /* somebody has a descriptor of it */
} BoundSocket;

typedef struct BoundSockets {
        BoundSocket *items;
        size_t n;
        PathList namespaces; /* that have been looked at */
} BoundSockets;

/* Adds those of the network namespace of a process. device is the overlay's. */
int sockets_load(BoundSockets *s, int process_fd, unsigned device);
void sockets_done(BoundSockets *s);
BoundSocket *sockets_find(const BoundSockets *s, ino_t inode) _pure_;

/* /proc tells the inode of a watch, not its path: that of a descriptor of the same process, if there is one.
 */
typedef struct Pending {
        Blocker blocker;
        ino_t inode; /* 0: of no interest */
} Pending;

typedef struct KnownInode {
        ino_t inode;
        char *path;
} KnownInode;

typedef struct Search {
        const Overlay *overlay;
        const char *proc;
        const char *below; /* what lies elsewhere is of no interest; NULL: everything is */
        Places places;
        BoundSockets sockets;
        Patience patience;
        Pending *items;
        size_t n;
        ino_t *locked; /* inodes of the overlay of which a descriptor with a lock was found */
        size_t n_locked;
        /* The process that is looked at. */
        pid_t process; /* 0: none */
        size_t first;  /* of its items */
        char command[PROC_COMMAND_SIZE];
        KnownInode *inodes; /* of its open files on the overlay */
        size_t n_inodes;
        char namespace[PATH_MAX];
        char root[PATH_MAX]; /* as its namespace sees it */
} Search;

/* What follows is about this process (0: about none). */
void search_begin(Search *s, pid_t process);
void search_forget_inodes(Search *s);
/* Adds one for the process that is looked at, unless it is there already, or there are too many
 * of its kind. Takes path (may be NULL) over. 1 if it was added, 0 if not. */
int search_add(Search *s, BlockerKind kind, bool is_blocking, char *path, ino_t inode);
/* Turns a path of that process, from the root of its namespace, into one relative to the overlay: 1, 0 (it
 * leads elsewhere) or -ENOMEM. */
int search_resolve(const Search *s, const char *path, char **ret);

/* A device number as the kernel has it in fdinfo and netlink. */
unsigned kernel_device(dev_t d) _pure_;

/* The parts of the search. */
int search_mounts(Search *s);
int search_layers(Search *s);
int search_fds(Search *s, const ProcTask *t);
/* Sockets and locks that nobody has a descriptor of, as far as /proc tells. */
int search_sockets(Search *s);
