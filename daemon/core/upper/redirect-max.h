/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The overlay module's limit on the length of the redirects the kernel creates (docs/overlayfs.md 2.5). A
 * longer lower path makes link() fail with EXDEV. The limit is global to the machine and may be changed on a
 * live mount; entries written under a higher one stay valid.
 *
 * Whoever needs it raised holds a shared lock on /run/ovlfind.redirect_max.lock, which only root can; the
 * last one to leave, or the next survey after a crash, sets it back to what stands in
 * /run/ovlfind.redirect_max. */
#pragma once

#include "base/macro.h"

/* Raises the limit to the longest path there is, unless somebody has, and keeps it so for as long as *hold
 * (-EBADF: nothing is held yet) is open. -EACCES, -EROFS, ... where it cannot be raised. */
int redirect_max_raise(int *hold);
/* Lets go of it; sets the limit back if nobody else needs it. */
void redirect_max_release(int *hold);
/* Sets back what was left raised by a process that was killed. */
void redirect_max_recover(void);
