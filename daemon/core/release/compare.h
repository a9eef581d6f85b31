/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which finalized directories are stale or gone: differences are counted, kept as findings beside the
 * records, and reported. It changes no directory and no record. A directory for which the lower does not
 * tell keeps the finding it had. */
#pragma once

#include "core/state/report.h"

/* Compares every finalized directory at or below path with the lower layers, keeps what it finds beside the
 * records (audits tell from then on), and reports directories that are stale or gone, or were so before. A
 * directory for which the lower layers do not tell keeps the state it had. Blocks on the lower; slow on
 * purpose where the context has a throttle. */
int compare_run(Context *context, const char *path, const WorkHooks *hooks, Failure *reterr);
