/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Workers that live on after their job: they keep old trees, or an old superblock, until nobody uses them.
 * Only what they tell is noted here; they do their work alone and hold up no job. One that ends before its
 * work is done is followed by a survey, which finds what it has left. */
#pragma once

#include "overlays/managed.h"

typedef struct KeptTree {
        struct KeptTree *next;
        uint32_t n_processes;
        char id[sizeof(((WireRecord *) 0)->name)];
        char path[];
} KeptTree;

/* An old superblock after a swap. */
typedef struct Draining {
        char *work_dir; /* NULL: there is none */
        char *who;
        uint32_t n_processes;
        bool is_read_only;
} Draining;

struct Keeper {
        Keeper *next;
        Managed *overlay;
        Proc *proc;
        KeptTree *trees;
        Draining draining;
};

/* Takes over a worker that has sent its result. */
void keeper_adopt(Managed *o, Proc *p);
/* A worker has ended. */
void keeper_forget(Managed *o, Proc *p);
/* Ends all of an overlay. */
void keeper_free_all(Managed *o);
/* A WIRE_KEPT record of a worker that is still at something else. */
void keeper_take_kept(Managed *o, Proc *p, const WireRecord *r);
void keeper_log_note(Managed *o, const WireRecord *r);
