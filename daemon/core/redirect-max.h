/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The overlay module's limit on the length of the redirects the kernel creates (facts 1.5). A longer lower
 * path makes link() fail with EXDEV. The limit is global to the machine and may be changed on a live mount;
 * entries written under a higher one stay valid. */
#pragma once

#include "base/macro.h"

/* Raises the limit if it is below the longest path there is. 1: raised, 0: nothing to raise. *before (0: not
 * raised yet) keeps the value for redirect_max_restore(). Thread-safe in the sense that raising twice is
 * harmless. */
int redirect_max_raise(unsigned *before);
void redirect_max_restore(unsigned before);
