/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The options of an overlay besides its layers: what the running one has, shown in the mount table or not,
 * and what a new superblock of the same layers is to be given. Touches no file of an overlay; the daemon may
 * call it. */
#pragma once

#include "core/mount/overlay.h"

typedef struct OverlayOption {
        char *key;
        char *value; /* NULL: a flag */
        bool is_changed;
} OverlayOption;

typedef struct OverlayOptions {
        OverlayOption *items;
        size_t n;
} OverlayOptions;

void overlay_options_done(OverlayOptions *l);

/* All options for a new superblock like that of o, with those in set (NULL: none) changed: also the ones
 * that the mount table does not show because they are the default of now. FAILURE_PRECONDITION for an
 * overlay whose options cannot be known or carried over, FAILURE_INVALID for what cannot be set. */
int overlay_options_carry(const Overlay *o, const char *set, OverlayOptions *ret, Failure *reterr);
/* Whether new, which was made with these options, has the layers of old (but for the work directory) and
 * shows the same options, or the changed ones. -EUCLEAN with the first difference. */
int overlay_options_verify(const Overlay *old, const Overlay *new, const OverlayOptions *l, Failure *reterr);
