/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is done without being asked: hot directories become candidates for jobs, one for a tree and not for
 * each directory of it, with Unit= for a whole release; one that fails is tried again after longer and
 * longer pauses. It makes no job itself: the manager does, from the candidates. What is hot is told by
 * heat.h, when work may start by schedule.h. */
#pragma once

#include "base/glob.h"
#include "base/path-util.h"
#include "jobs/job.h"
#include "jobs/queue.h"
#include "overlays/managed.h"

#define AUTOMATIC_AT_ONCE 16 /* jobs of an overlay that wait: what comes next is better decided later */
#define CANDIDATES_MOST 256  /* looked at for them: some lie within others */

/* A directory (relative path) has been used. What programs search in vain is no trouble any more once it is
 * finalized, and makes no heat then. Whether there may be a candidate by it. */
bool automatic_take_heat(Managed *o, const Queue *q, const char *path, const Use *use);
/* What is hot and may be tried now, hottest first, at most CANDIDATES_MOST; none while
 * AUTOMATIC_AT_ONCE jobs wait: the end of one has us look again. */
typedef struct Candidates {
        Managed *overlay;
        const Queue *queue;
        uint64_t now;
        uint64_t next_usec; /* when the earliest of the others may be */
        PathList paths;
        double *heats;  /* as many */
        PathList units; /* those of paths that are more than what is hot */
        Globs unit;
} Candidates;

void automatic_find(Managed *o, const Queue *q, Candidates *ret);
void candidates_done(Candidates *c);
/* Whether another one is above the ith: a job for that does its work. */
bool candidates_have_above(const Candidates *c, size_t i) _pure_;
/* Sees to it that they are looked for again when time alone changes the answer. */
void automatic_set_timer(Managed *o, const Candidates *c);
/* Whether jobs nobody asked for may start now: Schedule=. */
bool automatic_is_open(const Managed *o);
/* Has a job that may start from now on start some time later, another one on each host:
 * RandomizedDelaySec=. It counts from when the job was made or its window opened, and no window is missed.
 * Whether that changed the job. */
bool automatic_spread(const Managed *o, Job *j);
/* A job has ended, whoever had asked for it. */
void automatic_job_ended(Managed *o, const Job *j);
/* When to try again after the nth failure in a row (n from 1): a pause, by what went wrong. */
uint64_t automatic_pause(FailureKind kind, unsigned n) _pure_;
