/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Keeps a worker within what it may use: entries a second, requests under way at once, and, when nobody
 * waits for its job, out of the way of a machine that is under pressure; and keeps room in the upper layer.
 * Called by the threads of a pool, which wait here. The numbers come from the options and from pace.h. */
#pragma once

#include "base/failure.h"
#include "base/histogram.h"
#include "core/context/pace.h"
#include "core/context/pool.h"

typedef struct Context Context;

/* Room that is to be left: a part of the whole in percent, or bytes or inodes. */
typedef struct Floor {
        bool is_percent;
        uint64_t value;
} Floor;

typedef struct Throttle Throttle;

/* n_threads: the most requests under way at once; adapts: as the lower layer answers. rate: entries a
 * second, UINT64_MAX for any. yields: stop while the machine is under pressure. */
int throttle_new(unsigned n_threads, bool adapts, uint64_t rate, bool yields, Throttle **ret);
Throttle *throttle_free(Throttle *t);
DEFINE_CLEANUP(Throttle *, throttle_free);
/* Before n entries are worked on: waits for its turn, or for a cancel. t may be NULL. */
void throttle_wait(Throttle *t, const Context *context, uint64_t n);
/* Whether work stands still by intent. */
bool throttle_is_waiting(const Throttle *t);
void throttle_observe(Throttle *t, Pool *pool, PaceKind kind, uint64_t usec);
/* How long each entry took to be copied up, so far; nothing for NULL. */
void throttle_copy_answers(Throttle *t, Histogram *ret);
/* Sets a new pool to what has been found out before. */
void throttle_apply(Throttle *t, Pool *pool);

/* Whether the upper has, for work on path that takes so many bytes, the room that MinFreeSpace= and
 * MinFreeInodes= ask for; FAILURE_NO_SPACE. */
int guard_room(const Context *context, const char *path, uint64_t bytes, Failure *reterr);
