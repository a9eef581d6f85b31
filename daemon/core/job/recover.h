/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* After a crash: what a staging directory says about the work that stopped there, and bringing it to its
 * end. Which tree is which is told by file handles, never by names alone. What cannot be understood is
 * kept. To be killed here, too, leaves nothing but a later start of the same. */
#pragma once

#include "core/exchange/exchange.h"

/* Looks at the staging directory with this id. A new tree nobody has seen is removed. An old tree is
 * reconciled, and returned in *ret_kept to be retired (NULL if nothing is left to do). -EBUSY: a living
 * worker has it. */
int recover_one(Context *context, const char *id, Exchange **ret_kept, Failure *reterr);
