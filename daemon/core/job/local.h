/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is complete in the upper layer is made to need no lower layer at all. The kernel looks for the origin
 * of each entry when it loads it (a request to a server, which hangs when that is gone), only to show the
 * inode number of before. The origin is kept, in a form that the kernel passes over. */
#pragma once

#include "core/context/context.h"

/* Detaches the origin of every entry at or below path that is no directory, needs no lower layer and is not
 * in use. What is left is noted. Entries that the kernel has in memory are looked up, which may ask the
 * lower. -ECANCELED, -ENOMEM. */
int local_make(const Context *context, const char *path);
