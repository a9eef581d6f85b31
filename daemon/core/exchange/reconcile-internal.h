/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What reconcile.c and take-up.c share. */
#pragma once

#include "core/exchange/exchange-internal.h"

/* A directory on both sides. */
typedef struct Sides {
        Exchange *x;
        Node *node;
        int old_fd, old_upper_fd, new_fd, new_upper_fd;
        Changes changes;
        RawList list;
} Sides;

/* take-up.c: what the old tree has and the new one has not */
/* A name that is not placed: it is, if its place in the new tree is free. */
int take_up(Sides *s, const RawEntry *raw);
/* A name with something else than it was placed with: so has the new tree then, if it still has that. e may
 * be dropped. */
int replace(Sides *s, Entry *e, const RawEntry *raw);
/* It has no place in the new tree, and stays where it is: told if somebody stands there. */
int stay(Sides *s, const RawEntry *raw, const char *why);
/* reconcile.c: e leaves the new tree, but for what its users made in it since. e is dropped. */
int forget(Sides *s, Entry *e);
