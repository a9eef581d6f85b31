/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What reconcile.c and take-up.c share. */
#pragma once

#include "core/exchange-internal.h"

/* A directory on both sides. */
typedef struct Sides {
        Exchange *x;
        Node *node;
        int old_fd, old_upper_fd, new_fd, new_upper_fd;
        Changes changes;
        RawList list;
} Sides;

/* take-up.c: what the old tree has and the new one has not */
/* A file or directory that the tree does not know by that name. The name is free in the tree. */
int take_up(Sides *s, const RawEntry *raw);
/* A name with another file than it was placed with. e may be dropped. */
int replace(Sides *s, Entry *e, const RawEntry *raw);
/* A directory of the tree that was renamed through the old side: its new directory follows. */
int follow_move(Sides *s, Node *m, const RawEntry *raw);
/* Moves what the new tree has no place for out of the old one. */
int keep_from_old(Sides *s, const RawEntry *raw, const char *why);
