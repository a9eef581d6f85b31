/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What verbs that start jobs have in common once these are started: they wait for all of them, or with
 * --no-block for none, and then report. The exit code is that of the first job that did not succeed. With
 * --json there is one document for all jobs. */
#pragma once

#include <systemd/sd-bus.h>

#include "ctl/job-wait.h"

/* Starts a job: calls the method of the verb with what it is about and the options that the user gave, and
 * adds it to those that are waited for. argument is what the user typed. 0, or the exit code after a
 * message. */
int job_start(Ctl *c, JobWait *w, const char *subject, const char *argument);
/* Waits for the jobs that were started and says how they ended, or only which they are (--no-block). Returns
 * the exit code. */
int job_run(Ctl *c, JobWait *w);
