/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is done without being asked: hot directories become jobs, one for a tree and not for each directory
 * of it; one that fails is tried again after longer and longer pauses. */
#pragma once

#include "jobs/job.h"

typedef struct Manager Manager;
typedef struct Managed Managed;

/* A directory (relative path) has been opened, or files in it; n_counted of these opens count. */
void automatic_take_heat(Managed *o, const char *path, uint64_t n_opens, uint64_t n_counted);
/* Makes jobs of what is hot, as far as it is wanted now, and sees to it that this happens again when time
 * alone changes the answer. */
void automatic_run(Managed *o);
/* Whether jobs nobody asked for may start now: Schedule=. */
bool automatic_is_open(const Managed *o);
/* A job has ended, whoever had asked for it. */
void automatic_job_ended(Managed *o, const Job *j);
/* When to try again after the nth failure in a row (n from 1): a pause, by what went wrong. */
uint64_t automatic_pause(FailureKind kind, unsigned n) _pure_;
