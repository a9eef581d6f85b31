/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* torture: processes that change directories at random while something else exchanges these, each holding a
 * model of the names it owns. What a single operation or look sees against the model is "wrong" (for a
 * moment, maybe); what still differs when everything has come to rest is "lost". Shared by the model
 * (torture-model.c) and the driver (torture.c). */
#pragma once

#include <limits.h>
#include <stdatomic.h>

#include "base/macro.h"

#define SLOTS_MAX 512   /* names one worker owns at a time */
#define HELD_MAX 8      /* descriptors and maps it holds on to */
#define WATCHED_MAX 8   /* inotify watches it keeps: they hold inodes in memory, but no directory entries */
#define MESSAGES_MAX 64 /* the first surprises tell the story */

typedef enum Counter {
        COUNT_OPERATIONS,
        COUNT_WRONG,    /* operations and looks by path that saw something else than the model */
        COUNT_WRONG_FD, /* the same in workers that also go through old descriptors: their changes arrive
                           later */
        COUNT_LOST,     /* differences found at rest */
        _COUNT_MAX,
} Counter;

typedef enum Phase {
        PHASE_RUN,
        PHASE_STOP,   /* let go of everything */
        PHASE_VERIFY, /* compare all of the model, then rest again */
        PHASE_EXIT,
} Phase;

typedef struct Shared {
        atomic_int phase;
        atomic_uint at_rest; /* workers that have reached the phase */
        atomic_ullong counts[_COUNT_MAX];
        atomic_uint n_messages;
        char messages[MESSAGES_MAX][512];
} Shared;

/* A name in one of the directories: a file with a line of content, or a directory with one such file in it.
 */
typedef struct Slot {
        bool is_used;
        bool is_dir;
        unsigned directory;
        char name[48];
        unsigned content;
} Slot;

typedef struct Held {
        int fd;
        void *map;
        unsigned content;
} Held;

typedef struct Watched {
        int wd; /* 0: none */
        Slot *slot;
} Watched;

typedef struct Worker {
        unsigned number;
        unsigned short seed[3];
        bool uses_descriptors;
        char **directories; /* absolute; shared with all others */
        unsigned n_directories;
        unsigned n_names; /* ever made */
        Slot slots[SLOTS_MAX];
        unsigned n_held; /* how many files to hold open, at most HELD_MAX; 0: each one only for a moment */
        Held held[HELD_MAX];
        unsigned n_watched; /* how many entries to watch, at most WATCHED_MAX */
        Watched watched[WATCHED_MAX];
        int inotify_fd;
        int *directory_fds; /* opened some time ago, -EBADF when not */
        Shared *shared;
} Worker;

unsigned worker_random(Worker *w, unsigned limit);
void worker_count(Worker *w, Counter counter);
void worker_note(Worker *w, const char *what, const char *path, int error);

/* Takes into the model what the directories hold of names of this worker ("w<number>-…"). */
int model_load(Worker *w);
/* One random operation, checked. */
void model_step(Worker *w);
void model_release(Worker *w);
/* Compares everything; counts differences as lost. */
void model_verify(Worker *w);
