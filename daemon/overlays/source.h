/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A source of heat: a worker process that tells how much directories are used, for as long as it is wanted.
 * It may hang, die or be refused by the kernel; the others go on. One that hangs or dies is replaced, after
 * pauses that grow; one that is refused is not tried again before source_restart(). While one hangs in the
 * kernel, deaf to SIGKILL, none is started beside it, but where what it hangs at can be left out. */

/* There are two sorts. "opens" (watching.c) is a process per overlay. Those of manager-sources.c, a row each
 * there, are one process for all overlays: "paths" (core/paths) and "misses" (core/misses). Such a
 * worker is started with its verb alone (job_type_is_source()) and is then told on its socket of each
 * overlay that wants it, by packets that core/mount/overlay-set.h takes in: "overlay NAME MAJOR:MINOR
 * MOUNTPOINT" (also when the superblock is another one) and "gone NAME". It sends
 *
 * - WIRE_WATCH at once and when something changes: state = WATCH_IDLE, or WATCH_BUSY before it does what may
 *   hang: then the next record comes within WATCH_PATIENCE_USEC, or it is killed; path = the overlay it may
 *   hang at, if it is one of them; text = what is missing, "" if nothing is;
 * - WIRE_HEAT, at most once a second for a directory: text = the overlay, path ("": in the root, or nobody
 *   knows where), and what has happened there since the last one: entries_total = opens, entries_done =
 *   those of them that count, searches = programs that began to search it, misses = lookups that found
 *   nothing and had to ask a lower layer, saved = those that were answered without;
 * - WIRE_RESULT when it ends by itself: FailureKind Precondition if the kernel does not let it work, and
 *   text = why; anything else is a failure, after which another one is tried.
 *
 * What our own processes do is in no count: each source sees to that by itself. */
#pragma once

#include "process/host.h"

typedef enum SourceState {
        SOURCE_OFF,      /* not wanted, or there is nothing to look at */
        SOURCE_STARTING, /* has not gone through all directories yet */
        SOURCE_ON,
        SOURCE_PARTLY,  /* the reason says what is missing */
        SOURCE_STALLED, /* it hangs or died, and will be replaced */
        SOURCE_REFUSED, /* it cannot work here */
        _SOURCE_STATE_MAX,
} SourceState;

typedef struct Source Source;

typedef struct SourceKind {
        const char *name;    /* as in Sources= */
        const char *does;    /* "the process that ..." */
        const char *silence; /* what to do about one that gives no answer */
        bool (*is_wanted)(Source *s);
        void (*make_request)(Source *s, WireRequest *q);
        void (*started)(Source *s); /* may be told things by now */
        void (*use)(Source *s, const WireRecord *r);
        void (*changed)(Source *s); /* its state, reason or numbers */
        void (*log)(const Source *s, SourceState state, const char *reason);
        void (*catch_up)(Source *s); /* with what says whether it is wanted; may be NULL */
        /* It hangs at this overlay, which the next one is not to be told of for some time; may be NULL. */
        void (*leave_out)(Source *s, const char *overlay);
} SourceKind;

struct Source {
        const SourceKind *kind;
        const Host *host;
        const char *tag; /* of its process */
        void *userdata;
        Proc *proc;
        sd_event_source *timer; /* patience with one that is busy, or the pause before the next one */
        uint64_t pause_usec;
        uint64_t started_usec; /* monotonic; the last one */
        uint64_t counts_usec;  /* monotonic; since when it has been at work, 0: not yet */
        char *waits_for;       /* the overlay it is busy with, of one that says so */
        SourceState state;
        char *reason; /* NULL without one */
        uint64_t n_known, n_watches;
};

const char *source_state_to_string(SourceState s) _pure_;
void source_done(Source *s);
/* Starts or ends the process, as it is wanted. */
void source_update(Source *s);
/* Starts it anew: what it is to look for has changed. */
void source_restart(Source *s);
/* One that does not listen is ended: another one knows what it would have missed. */
void source_tell(const Source *s, const char *packet);
