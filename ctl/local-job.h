/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* finalize and unfinalize with --offline: a worker of our own, on an overlay that is not mounted. Nothing
 * is done to the layers here; the worker mounts them for itself (core/job/offline.h). One path after the
 * other; the first failure is the exit code. Records go where the daemon keeps its own, so that it goes on
 * with them. */
#pragma once

#include "ctl/ctl.h"

/* The verb is finalize or unfinalize; paths are relative to the root of the overlay. Blocks until all are
 * done. Returns an ExitCode, after a message if it is not 0. */
int local_job(Ctl *c, int argc, char **argv);
