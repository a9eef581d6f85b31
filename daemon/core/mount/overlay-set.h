/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The overlays that a source of heat for all of them looks at, as it is told: "overlay NAME MAJOR:MINOR
 * MOUNTPOINT" adds one, or says that its superblock is another one now; "gone NAME" takes it away. Nothing
 * here touches a file, or looks for overlays by itself. */
#pragma once

#include <sys/types.h>

#include "base/macro.h"

typedef struct OverlayPlace {
        char *name;
        char *mount_point; /* absolute, simplified */
        dev_t device;      /* of the superblock */
} OverlayPlace;

typedef struct OverlaySet {
        OverlayPlace *items;
        size_t n;
} OverlaySet;

/* 1: taken; 0: it is about something else, or malformed. -ENOMEM. */
int overlay_set_take(OverlaySet *s, const char *packet);
/* All that is to be read from a socket without waiting. 1: something was taken, 0: nothing, -ECANCELED: it
 * is time to end. */
int overlay_set_receive(OverlaySet *s, int fd);
/* The innermost one that has path (absolute, simplified), and the rest of path. NULL: none. */
const OverlayPlace *overlay_set_find(const OverlaySet *s, const char *path, const char **ret_relative);
void overlay_set_done(OverlaySet *s);
