/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between reconcile.c (what differs, and what leaves the new tree) and replay-addition.c (what comes into
 * it) only. Others use exchange-internal.h. */
#pragma once

#include "core/exchange/exchange-internal.h"
#include "core/exchange/replay-rules.h"

/* The new directory is on its way, or its users are removing it: what was to be done in it is done again. */
enum { RECONCILE_LATER = PAIR_ON_ITS_WAY };

/* replay-addition.c: what the old tree has under a name comes into the new one, or stays where it is. e,
 * what is known under that name or NULL, may be dropped. */
int replay_addition(Sides *s, Entry *e, const RawEntry *raw, Found found);
/* reconcile.c: e leaves the new tree, but for what its users made in it since. e is dropped. */
int remove_from_new(Sides *s, Entry *e);
