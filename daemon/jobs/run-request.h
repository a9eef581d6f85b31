/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "jobs/job.h"
#include "overlays/managed.h"

/* Fills an empty request; 0, -ENOMEM or -E2BIG. The caller frees it, also after an error. */
void run_make_request(const Managed *o, const Job *j, WireRequest *q);
/* Whether a job that finalizes marks the directories above, too. */
bool run_wants_parents(const Managed *o, const Job *j) _pure_;
