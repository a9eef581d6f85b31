/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Takes up what changed in the lower layers below finalized directories, which stay finalized all the while.
 * No directory is exchanged: a new name is linked into it, a changed file is replaced by a new copy in one
 * rename, a removed one goes. Each of these steps has been done or not, at any instant; what a user has
 * changed is not touched. */
#pragma once

#include "core/release/prune.h"

/* Everything finalized at or below path. 0; RESULT_HUNG as for work_finalize(). */
int refresh_run(Prune *p, const char *path, Failure *reterr);
