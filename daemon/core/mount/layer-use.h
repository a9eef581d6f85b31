/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Other overlays that have directories of this one for layers. The mount table says only how their layers
 * were spelled when they were mounted: relative to a directory that nobody knows any more, by way of
 * symlinks or mounts that have changed since, or by nothing at all. So the kernel is asked (layer-probe.h),
 * and the spelling gives names to what it says; where it says nothing, the spelling is believed. */
#pragma once

#include "core/mount/inner-mounts.h"
#include "core/mount/mount-table.h"

typedef struct OtherOverlay {
        dev_t device;
        char *fs_options;
        char *where; /* mount point as its namespace sees it */
        pid_t pid;   /* a process of the namespace */
        bool is_reachable;
} OtherOverlay;

/* A mount of the overlay itself. */
typedef struct OwnPlace {
        int id;
        char *target, *root;
} OwnPlace;

typedef struct LayerUses {
        const Overlay *overlay;
        const char *proc;
        OtherOverlay *others;
        size_t n_others;
        OwnPlace *places;
        size_t n_places;
} LayerUses;

void layer_uses_done(LayerUses *u);
/* Notes what a mount table holds. */
int layer_uses_note(LayerUses *u, const MountTable *t, pid_t pid);

/* A layer that lies on the overlay, or may. */
typedef struct LayerUse {
        const OtherOverlay *other;
        const char *path; /* NULL: not known */
        const char
                *tail;  /* with neither path nor inode: directories whose path ends so may be it, "": any */
        ino_t inode;    /* 0: not known */
        bool is_proven; /* it is this inode, as the kernel says */
} LayerUse;

typedef int (*layer_use_func)(const LayerUse *u, void *userdata);
/* Tells each layer that lies on the overlay. search as for overlay_inner_mounts(). -EAGAIN: a process that
 * was to lead to another overlay has gone; the tables are to be read again. is_last: they have been, often
 * enough. */
int layer_uses_find(
        const LayerUses *u, InnerSearch *search, bool is_last, layer_use_func func, void *userdata);
