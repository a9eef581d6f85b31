/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* countfs: a read-only file system that shows a source directory, counts what it is asked, and can be slow,
 * hang or fail on request. It stands in for a remote lower layer in every test. This header is shared by its
 * parts: the operations (countfs.c), the inodes (countfs-node.c) and the control socket (countfs-control.c).
 */
#pragma once

#define FUSE_USE_VERSION 312

#include <fuse_lowlevel.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>
#include <uthash.h>

#include "base/macro.h"

typedef enum Op {
        OP_LOOKUP,
        OP_GETATTR,
        OP_READLINK,
        OP_OPEN,
        OP_READ,
        OP_RELEASE,
        OP_OPENDIR,
        OP_READDIR,
        OP_RELEASEDIR,
        OP_GETXATTR,
        OP_LISTXATTR,
        OP_STATFS,
        OP_IOCTL,
        OP_LSEEK,
        _OP_MAX,
} Op;

#define TRACE_MAX 4096 /* operations remembered while tracing; one finalize of a small directory fits */

/* Lookups answered for names in one directory. Lives as long as the process: nodes come and go, counts stay.
 */
typedef struct DirStat {
        char *path; /* relative to the source, "" is its root */
        atomic_ullong lookups;
        atomic_ullong enoents;
        UT_hash_handle hh;
} DirStat;

typedef struct NodeKey {
        dev_t dev;
        ino_t ino;
} NodeKey;

/* An inode the kernel knows of; its address is the node id (but for the root). */
typedef struct Node {
        NodeKey key;
        int fd;            /* O_PATH */
        char *path;        /* as of the first lookup, relative to the source */
        fuse_ino_t parent; /* as of the first lookup; only ever handed back to the kernel */
        mode_t mode;
        uint64_t n_lookups;
        DirStat *stat; /* directories only */
        UT_hash_handle hh;
} Node;

/* What happens to an operation before it is served. Both may be limited to paths below a prefix. */
typedef struct Gate {
        pthread_mutex_t lock;
        pthread_cond_t changed;
        bool is_hanging;
        int error;    /* positive errno to answer with, 0 none, -1: N where a name is errno-N */
        unsigned ops; /* bits of the operations that are answered so */
        char prefix[PATH_MAX];
        atomic_uint delay_usec;
        atomic_uint waiting; /* operations in the gate now, and the most there ever were */
        atomic_uint waiting_max;
} Gate;

typedef struct Trace {
        pthread_mutex_t lock;
        atomic_bool is_on;
        char *lines[TRACE_MAX];
        size_t n; /* ever written; the ring holds the last TRACE_MAX */
} Trace;

typedef struct CountFs {
        struct fuse_session *session;
        Node root;
        pthread_mutex_t lock; /* nodes, stats */
        Node *nodes;
        DirStat *stats;
        atomic_ullong counts[_OP_MAX];
        atomic_ullong enoents;
        atomic_ullong bytes_read;
        bool can_open_handles; /* nodes stay when they are forgotten, as a handle is the number of one */
        atomic_bool can_parallel_dirops; /* from the kernel's INIT to our answer */
        atomic_uint timeout_sec; /* of attributes and entries; names that do not exist are never cached */
        Gate gate;
        Trace trace;
        const char *control_path;
        int control_fd;
        pthread_t control_thread;
} CountFs;

const char *op_to_string(Op op) _pure_;
/* Both relative to the source, without slashes at either end; "" is the root, and everything is below it. */
bool path_is_below(const char *path, const char *prefix) _pure_;

Node *node_get(CountFs *fs, fuse_ino_t ino);
/* The node of a name, made when the kernel does not know its inode yet. Returns 0 or a positive errno. */
int node_lookup(CountFs *fs, fuse_ino_t parent, const char *name, struct fuse_entry_param *ret);
/* The same for "." in an inode that may have been forgotten: that is how the kernel opens a handle. */
int node_of_handle(CountFs *fs, fuse_ino_t ino, struct fuse_entry_param *ret);
void node_forget(CountFs *fs, fuse_ino_t ino, uint64_t n_lookups);
/* Called with the lock held; the result lives as long as the process. NULL: out of memory. */
DirStat *dir_stat_acquire(CountFs *fs, const char *path);

/* Starts answering on the control socket, in a thread of its own that lives as long as the process. One
 * command per connection, the answer ends with the connection. Returns a negative errno. */
int control_start(CountFs *fs);
void control_stop(CountFs *fs);

void trace_add(Trace *t, const char *format, ...) _printf_(2, 3);
/* Makes the kernel forget cached attributes, listings and names. Returns how many inodes were named to it.
 */
size_t countfs_invalidate(CountFs *fs);
