/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How a job that was waited for ended, said once: the summary or the plan on stdout, the rest on stderr. It
 * waits for nothing and changes nothing. What a job has left as it is, the daemon tells from memory; not to
 * hear that makes no job a failed one. */
#pragma once

#include "ctl/job-wait.h"

/* type is the verb. With --json nothing goes to stdout: the caller prints all jobs as one
 * document. Returns the job's ExitCode. */
int job_report(Ctl *c, WaitedJob *j);
