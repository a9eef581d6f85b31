/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Takes copies out of the upper that hold nothing of their own, so that the lower shows again. It asks no
 * record, only what both layers hold now. It writes to the upper past the overlay, so no overlay may have
 * that in use meanwhile. Each removal stands for itself: a kill leaves less to do. */
#pragma once

#include "core/context/context.h"
#include "core/lower/lower.h"

/* Removes, at and below path, what looks the same without it: files with the lower's owner, mode,
 * modification time, xattrs and content (a file of which only metadata was copied up has it by that),
 * directories with the lower's owner, mode and xattrs that hold nothing any more. The directories above path
 * go alike. Whiteouts, names that are linked together here, opaque directories and what was moved stay; what
 * the lower does not tell about is noted and stays. Access times, inode flags but "a" and "i", and times of
 * directories do not count. Raw: no overlay may use the upper. Each removal stands for itself, so a kill
 * leaves less to do. Of the context: upper_fd, throttle, observer. *ret_n: entries removed, also on failure.
 * Blocks on the lower; -ECANCELED. */
int reset_run(
        const Context *context, const Lower *lower, const char *path, uint64_t *ret_n, Failure *reterr);
