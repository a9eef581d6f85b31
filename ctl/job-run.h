/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What verbs that start jobs have in common once these are started: they wait for all of them, or with
 * --no-block for none, and then report. The exit code is that of the first job that did not succeed. With
 * --json there is one document for all jobs. */
#pragma once

#include <systemd/sd-bus.h>

#include "ctl/job-wait.h"

/* Appends an entry of an a{sv}; the value follows as sd_bus_message_append() takes it. */
int job_append_option(sd_bus_message *m, const char *key, const char *type, ...);
/* Waits for the jobs that were started and says how they ended, or only which they are (--no-block). type is
 * the verb, in messages. Returns the exit code. */
int job_run(Ctl *c, const char *type, JobWait *w);
