/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who uses an overlay in a way that a swap of its superblock cuts apart (docs/overlayfs.md 7.6), or at all:
 * processes with open files, locks, sockets, watches, mappings on it, and mount namespaces that hold a copy
 * of the mount. */

/* Found through /proc and netlink, without waiting for any layer. What they do not tell is not found:
 * descriptors on their way through a socket, files that io_uring or the kernel (nfsd, loop devices, swap)
 * has open, namespaces without a process. Locks and sockets that are held so are found, but not by whom.
 * Workers of ours are passed over. */
#pragma once

#include <sys/types.h>

#include "base/states.h"
#include "core/mount/overlay.h"

#define BLOCKER_COMMAND_SIZE 64
#define BLOCKERS_PER_KIND 64 /* of one process; who has more of a kind has them cut */

typedef struct Blocker {
        BlockerKind kind;
        bool is_blocking; /* a swap would cut it apart; the others go on working in the old superblock */
        pid_t pid;        /* 0: nobody could be found, as for a mount of this namespace */
        char command[BLOCKER_COMMAND_SIZE]; /* printable; "" without a process */
        char *path;  /* relative to the overlay's root, "" is the root; NULL: not known. Bytes as they are;
                        the kernel appends " (deleted)" to what has no name any more */
        char *where; /* of a mount: its mount point as its namespace sees it; of a layer: that of the other
                        overlay; else NULL */
} Blocker;

typedef struct Blockers {
        Blocker *items; /* those that block first, then by PID, kind and path */
        size_t n;
        size_t n_blocking; /* of these */
} Blockers;

/* Takes a snapshot: what comes or goes meanwhile may be missed. o is looked for by the mount id and device
 * in it, so it may be one that was swapped out and detached as long as somebody keeps it from being freed.
 * Blocks on /proc only, and for about 3 s, and 10 ms for each after that, on processes that hang in the
 * kernel with their memory locked; such a one is named as blocking, kind mmap, with no path. Returns 0,
 * -ENOMEM, or what opening proc (NULL: /proc) says. below: only what processes have at or below this path,
 * relative to the overlay's root; NULL: everything. */
int blockers_find(const Overlay *o, const char *proc, const char *below, Blockers *ret);
void blockers_done(Blockers *b);
/* Those that block, each process once, for a message: "1234 (vim, open-write), mount at '/mnt' and 3 more";
 * "" for none. */
#define BLOCKERS_NAMED 3
#define BLOCKERS_TEXT_SIZE 320
void blockers_to_text(const Blockers *b, char buffer[static BLOCKERS_TEXT_SIZE]);
