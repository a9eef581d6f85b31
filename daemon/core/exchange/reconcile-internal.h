/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What reconcile.c and replay-addition.c share. */
#pragma once

#include "core/exchange/exchange-internal.h"
#include "core/exchange/replay-rules.h"

/* replay-addition.c: what the old tree has under a name comes into the new one, or stays where it is. e,
 * what is known under that name or NULL, may be dropped. */
int replay_addition(Sides *s, Entry *e, const RawEntry *raw, Found found);
/* reconcile.c: e leaves the new tree, but for what its users made in it since. e is dropped. */
int remove_from_new(Sides *s, Entry *e);
