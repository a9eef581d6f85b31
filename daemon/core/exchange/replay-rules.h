/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a name in the old tree means for the new one: decided from what is known of it alone. No file is
 * looked at here, and nothing is changed; reconcile.c and replay-addition.c look and act.
 *
 * Invariant: no name leaves the new tree because it is missing in an old tree that is kept for those who
 * stand in it, and no directory because it is missing in one that is being removed. */
#pragma once

#include "core/exchange/exchange-internal.h"

/* What stands there, if it is to be looked at again. */
typedef enum Found {
        FOUND_SETTLED,    /* what was placed, or what has no place, which was told */
        FOUND_HOMELESS,   /* its new directory is gone: it stays */
        FOUND_UNWELCOME,  /* something else in the place of a directory, which nobody may remove: it stays */
        FOUND_NEW,        /* it appears in the new tree if the name is free there */
        FOUND_REPLACED,   /* a file after a file, or a directory after a directory */
        FOUND_OTHER_KIND, /* what was placed leaves first */
} Found;

/* e: what is known under the name, or NULL. node: what stands there is the old directory of that node, or
 * NULL. has_new: the new directory is there. */
Found replay_found(
        const Entry *e,
        const RawEntry *raw,
        const Node *node,
        bool has_new,
        bool is_kept,
        bool is_final_look) _pure_;

/* Nothing stands there. */
typedef enum Missed {
        MISSED_NOTHING, /* nor was anything put there from it */
        MISSED_FORGET,  /* what stayed for lack of a place is gone */
        MISSED_GONE,    /* it leaves the new tree, too */
        MISSED_KEPT,    /* the new tree keeps it */
} Missed;

/* is_removing: the old tree is being removed. */
Missed replay_missed(const Entry *e, bool is_kept, bool is_removing) _pure_;
