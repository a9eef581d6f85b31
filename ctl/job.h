/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Jobs as records: their words for people, in "jobs", "status" and the summary at the end. It asks the
 * daemon nothing. What is told of a job are its own properties alone, so a job of a kind that only a newer
 * daemon has is shown as far as it is understood. */
#pragma once

#include "ctl/ctl.h"
#include "ctl/exit-code.h"

/* "ovlfinctl jobs"; the exit code. */
int job_print_table(Ctl *c, RecordList *list);
/* done, failed or canceled */
bool job_is_finished(const Record *job) _pure_;
/* "3: finalize /ovl/x, running, ██████░░░░  65 %, 40/61 entries". Allocated. */
char *job_describe(const Record *job);

/* What a finished job comes down to: done is EXIT_CODE_OK, otherwise the name of its error decides. */
ExitCode job_exit_code(const Record *job) _pure_;
typedef struct JobOutcome {
        uint64_t n_directories; /* that changed into what the job works towards */
        uint64_t n_excluded;
        uint64_t n_pending;
} JobOutcome;

/* "/ovl/x finalized: 61 entries in 40 directories, 2 excluded, 0.31 s". Allocated. */
char *job_summary(const Record *job, const JobOutcome *o);
