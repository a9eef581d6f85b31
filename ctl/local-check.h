/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A check without a daemon: a worker of our own, asked over the protocol of base/wire.h. It changes
 * nothing, and judges nothing: levels and texts are core's. No configuration is read, so the layers are
 * those that the mount table shows. */
#pragma once

#include "base/failure.h"
#include "ctl/record.h"

/* Checks the overlay mounted at mount_point (absolute, resolved). Records have id, level, text,
 * advice (absent when there is none), mount_point. Blocks until the worker has ended. Negative errno and
 * *reterr set when the checks could not run. */
int local_check(const char *mount_point, RecordList *ret, Failure *reterr);

/* The root of the mount a path lies on; allocated. The path itself where the kernel cannot tell (before
 * Linux 5.8). */
char *mount_root(const char *path);
