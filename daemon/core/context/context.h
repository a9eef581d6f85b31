/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A worker's hold on one overlay: descriptors of its root and of its upper layer, what was asked for, whom
 * to tell. Every module that acts on an overlay takes one. It holds no lower layer (lower.h). While it is
 * open the mount can still be unmounted, unless somebody asked for the job (mount-clone.h). */
#pragma once

#include <signal.h>
#include <stdatomic.h>

#include "base/failure.h"
#include "base/glob.h"
#include "base/path-util.h"
#include "base/states.h"
#include "core/context/throttle.h"
#include "core/mount/inner-mounts.h"
#include "core/mount/overlay.h"
#include "core/record/manifest.h"
#include "core/upper/directory-pair.h"

/* Told while work goes on, from the main thread only. All members may be NULL. Paths are relative to the
 * overlay's root. */
typedef struct Observer {
        /* why: of JOB_WAITING for somebody to leave; else NULL */
        void (*progress)(void *userdata, JobState state, uint64_t done, uint64_t total, const char *why);
        void (*doing)(void *userdata, const char *what);
        void (*note)(void *userdata, const char *path, const char *text);
        void (*kept)(
                void *userdata, const char *path, const char *id, unsigned n_processes, const char *who);
        void *userdata;
} Observer;

#define DEPTH_INFINITE UINT32_MAX

typedef struct ContextOptions {
        uint64_t quiet_usec; /* names must not have changed for so long before a directory is exchanged */
        unsigned n_threads;
        StandingPolicy standing;
        bool is_unasked; /* rather fail than wait for somebody to leave */
        bool is_asked;   /* somebody waits for what a refresh does, however much it copies */
        bool break_hard_links;
        bool force;
        bool is_private; /* mounted for this job alone; offline.h */
        Method method;
        uint32_t depth;    /* levels below what was asked for; less than DEPTH_INFINITE only by marks */
        bool want_parents; /* the directories above, too; by marks */
        Floor min_free_space, min_free_inodes;
        uint64_t max_entries;       /* of one exchange; UINT64_MAX: any number */
        uint64_t refresh_max_bytes; /* of data of one file, as long as nobody asks; UINT64_MAX: any */
        Globs exclude; /* directories that stay as they are, but for one that was asked for itself */
} ContextOptions;

struct Context {
        const Overlay *overlay; /* borrowed */
        const char *name;       /* of the configured overlay; borrowed */
        int root_fd;            /* the overlay's root, as mount-clone.h opens it */
        int upper_fd; /* the upper layer's root, too; O_RDONLY, so that file handles can be opened through it
                       */
        int records_fd; /* directory of this overlay's records */
        int drains_fd;  /* directory of the records of its old superblocks */
        ContextOptions options;
        Observer observer;
        OverlayInnerMount *inner_mounts; /* as of the last context_load_inner_mounts() */
        size_t n_inner_mounts;
        bool is_unproved_noted; /* that the lower layers are not looked at */
        InnerSearch inner_search;
        int redirect_max_hold;      /* redirect-max.h; let go by context_done() */
        atomic_ullong bytes_copied; /* data, for progress */
        atomic_bool is_canceled; /* set by a signal or another thread; looked at before anything users would
                                    see */
        Throttle *throttle;      /* NULL: no restraint */
};

#define CONTEXT_INIT                                                                                        \
        (Context) {                                                                                         \
                .root_fd = -EBADF, .upper_fd = -EBADF, .records_fd = -EBADF, .drains_fd = -EBADF,           \
                .redirect_max_hold = -EBADF, .inner_search = INNER_SEARCH_INIT,                             \
                .options = { .quiet_usec = 2 * USEC_PER_SEC,                                                \
                             .n_threads = 32,                                                               \
                             .depth = DEPTH_INFINITE,                                                       \
                             .max_entries = UINT64_MAX,                                                     \
                             .refresh_max_bytes = UINT64_MAX },                                             \
        }

/* Its root, borrowed. */
static inline DirectoryPair context_root(const Context *context) {
        return (DirectoryPair){ .fd = context->root_fd, .upper_fd = context->upper_fd };
}

/* Opens the layers of a context set to CONTEXT_INIT (it may have been canceled since), makes the directory
 * of records below state_dir. Blocks on the overlay. */
int context_open(
        Context *context, const Overlay *o, const char *name, const char *state_dir, Failure *reterr);
void context_done(Context *context);
/* The overlay's root is opened through its mount itself from here on, for those who move that. */
int context_open_mount(Context *context, Failure *reterr);

/* Mounts inside of the overlay, bind mounts of parts of it, and overlays that have parts of it for layers,
 * in every mount namespace. */
int context_load_inner_mounts(Context *context);
void context_forget_inner_mounts(Context *context);
/* The one at path, or NULL. */
const OverlayInnerMount *context_find_inner_mount(const Context *context, const char *path) _pure_;
/* One at or below path. */
const OverlayInnerMount *context_find_inner_mount_below(const Context *context, const char *path) _pure_;
/* Whether there is a layer anywhere of which the path is not known. */
bool context_has_unplaced_layer(const Context *context) _pure_;
/* One that is a layer of another overlay: the directory above path that it is, or any. Asks the overlay for
 * inode numbers, if there is one of which only that is known. 1, 0 or an error. */
int context_find_layer_around(const Context *context, const char *path, const OverlayInnerMount **ret);
/* The layer that the directory at path, open as fd, is: 1, 0 or an error. */
int context_find_layer_at(const Context *context, const char *path, int fd, const OverlayInnerMount **ret);
/* Whether what was asked for is to be marked, rather than exchanged. */
bool context_wants_mark(const Context *context) _pure_;
/* Adds the paths of the directories in a directory of the overlay, through the overlay; also on failure, as
 * far as it got. */
int context_list_directories(const Context *context, const char *path, PathList *ret);

/* Has the kernel read the beginning of a directory, and thereby that in each lower layer it is merged of,
 * unless somebody holds such a listing (ovl_cache_get()). */
int context_read_directory(const Context *context, const char *path);

bool context_is_canceled(const Context *context);
void context_progress(const Context *context, JobState state, uint64_t done, uint64_t total);
/* What the job is at from now on, and what may hold it up there: told when it does not get on. */
void context_doing(const Context *context, const char *what);
/* It waits for somebody to leave. */
void context_wait(const Context *context, uint64_t done, uint64_t total, const char *why);
/* What was done in the upper is on its disk afterwards, so that a record may say so: after a power loss the
 * record must not be ahead. Nothing of an overlay that is mounted volatile. 0 or a failure, which the kernel
 * reports once: what was to be said must not be said then. Blocks on the upper. */
int context_make_durable(const Context *context, Failure *reterr);
/* The records of the overlay, or a failure that names their directory. */
int context_load_records(const Context *context, Records **ret, Failure *reterr);
void context_note(const Context *context, const char *path, const char *format, ...) _printf_(3, 4);
/* An old tree of path is kept, or (n_processes 0) no longer; id is that of its work. */
void context_kept(
        const Context *context, const char *path, const char *id, unsigned n_processes, const char *who);
