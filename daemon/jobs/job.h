/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A job: what was asked for, how far it is, how it ended. A plain value with a state machine; it knows no
 * process, loop or bus, and no clock: the current time is an argument. A state changes by job_set_state()
 * alone, which allows only what may follow; a finished job changes no more. */
#pragma once

#include "base/failure.h"
#include "base/states.h"
#include "base/wire.h"

/* A worker that dies takes its job with it this often before the job counts as the reason. */
#define JOB_ATTEMPTS_MAX 3
/* What a client can still read at once, also of all jobs (a bus ends the connection of who sends messages
 * that are too large); a plan or a list of notes that is longer ends with how many were left out. */
#define JOB_STEPS_MAX 4096
#define JOB_NOTES_MAX 256
#define JOB_STEP_BYTES_MAX (1024 * 1024)
#define JOB_NOTE_BYTES_MAX (64 * 1024)
/* Between two attempts of a job that somebody may be waiting for: twice as long each time. */
#define JOB_PAUSE_FIRST_USEC USEC_PER_SEC
#define JOB_PAUSE_LAST_USEC (60 * USEC_PER_SEC)
/* Looking whether processes have let go takes some milliseconds. */
#define JOB_HELD_PAUSE_FIRST_USEC (USEC_PER_SEC / 4)
#define JOB_HELD_PAUSE_LAST_USEC (4 * USEC_PER_SEC)

typedef struct JobOptions {
        uid_t uid;       /* who asked; 0 for the daemon itself, too */
        bool is_unasked; /* by nobody: the daemon found that it is to be done */
        bool is_dry_run;
        bool is_forced;
        RemountMethod remount; /* of JOB_REMOUNT */
        const char *set;       /* options to change; borrowed while the job is made, then the job's own */
        bool has_method;       /* otherwise as configured */
        Method method;
        bool has_standing; /* the same */
        StandingPolicy standing;
        bool has_depth; /* otherwise everything below */
        uint32_t depth;
        bool want_parents;
        bool is_repair;
        bool has_data;
        uint64_t data_bytes; /* only with has_data */
} JobOptions;

/* Whether both ask for the same, whoever does. */
bool job_options_equal(const JobOptions *a, const JobOptions *b) _pure_;
/* Whether the job is just what its type and path say. */
bool job_options_are_default(const JobOptions *o) _pure_;

/* A step of a dry run's plan, or a problem that an audit found. */
typedef struct JobStep {
        char *name;
        char *path; /* relative to the mount point */
        char *text;
        char *advice; /* of a problem */
        uint64_t entries;
        uint64_t inodes;
        uint64_t bytes;
        bool is_repaired;
} JobStep;

typedef struct Job {
        uint32_t id;
        JobType type;
        JobState state;
        JobOptions options;
        char *overlay;       /* name */
        char *mount_point;   /* of the overlay, when the job was made */
        char *path;          /* relative to the mount point */
        char *set;           /* what options.set points to */
        uint64_t pause_usec; /* of a swap */
        uint64_t entries_done;
        uint64_t entries_total;
        uint64_t bytes_copied;
        uint64_t n_errors;
        uint64_t n_finalized; /* directories that became finalized */
        uint64_t queued_usec; /* realtime, as the two below; 0 not yet */
        uint64_t started_usec;
        uint64_t finished_usec;
        unsigned n_attempts; /* workers started for it */
        bool is_cancel_wanted;
        bool is_automatic;        /* nobody has asked for it */
        double heat;              /* of an automatic one, when it was made */
        uint64_t not_before_usec; /* boot time; put off until then, 0 not */
        uint64_t spread_usec;     /* RandomizedDelaySec= it has been put off by, 0 not */
        bool is_behind;           /* has to wait for one that is put off; of the queue */
        char *pause_reason;       /* of the last time */
        char *wait_reason;        /* for whom its worker waits to leave; NULL it does not */
        unsigned n_pauses;        /* in a row, without getting further */
        bool needs_survey;        /* something the last attempt could not clear away: a survey comes first */
        uint64_t trouble_usec;    /* boot time; when the first of these came, 0 never */
        uint64_t trouble_entries; /* how far it had got then */
        char *doing;              /* what it is at, and what may hold it up there; NULL: not known */
        bool is_stalled; /* has not got on for a while, though nothing holds it up that we know of */
        Failure failure;
        char **notes; /* the first ones, within the limits above */
        size_t n_notes;
        size_t n_notes_seen;
        size_t note_bytes;
        JobStep *steps;
        size_t n_steps;
        size_t n_steps_seen;
        size_t step_bytes;
} Job;

int job_new(
        uint32_t id,
        JobType type,
        const char *overlay,
        const char *mount_point,
        const char *path,
        Job **ret);
Job *job_free(Job *j);
DEFINE_CLEANUP(Job *, job_free);

/* Copies the strings. */
int job_set_options(Job *j, const JobOptions *options);

/* The state machine. A job moves back to queued only to be tried again, and never out of a final state. */
bool job_state_may_follow(JobState from, JobState to) _pure_;
/* 1: changed, 0: is in that state already, -EPERM: not allowed from here. Sets the times. */
int job_set_state(Job *j, JobState state, uint64_t now_usec);
/* Ends the job: done when failure is empty, canceled when it is FAILURE_CANCELED, failed otherwise. Takes
 * the failure. */
int job_finish(Job *j, Failure *failure, uint64_t now_usec);

/* Takes over what a worker reported. 0 or -ENOMEM. */
void job_take_counters(Job *j, const WireRecord *r);
int job_add_step(Job *j, const WireRecord *r); /* a WIRE_STEP or WIRE_PROBLEM */
void job_clear_steps(Job *j);
int job_add_note(Job *j, const char *note);

/* The absolute path the job is about, owned by the caller; NULL on out of memory. */
char *job_path(const Job *j);
/* Of an entry of the journal about it; with its path, which may be NULL. */
#define JOB_FIELDS(j, message, absolute)                                                                    \
        (&(const LogFields){                                                                                \
                .message_id = (message), .overlay = (j)->overlay, .path = (absolute), .job = (j)->id })
/* Whether two jobs may not run at the same time: same overlay, and one path at or below the other. */
bool job_conflicts(const Job *a, const Job *b) _pure_;
/* Whether a failure is of the kind that goes away by itself, and the job one that can wait for that. What an
 * attempt could not clear away may be in the way of the next one. */
bool job_may_wait(const Job *j, const Failure *failure) _pure_;
/* Whether it has to wait for processes, for as long as it takes, and nothing was done. */
bool job_is_held_up(const Job *j, const Failure *failure) _pure_;
/* Whether nobody asked for it, and somebody is in the way who may leave: it ends, and its directory is tried
 * again later. */
bool job_is_put_off(const Job *j, const Failure *failure) _pure_;
/* When to look again. */
uint64_t job_held_pause(const Job *j) _pure_;
/* There was such a failure, after so many entries of what the attempt could not finish. It is the first in a
 * row if the job has got further than ever there, or has finished some of what it is to do, which is not
 * begun again. The time since begun_usec, when the attempt was started, does not count as trouble if it did
 * anything: with the pauses alone there is an end, too. Times are boot time, here and below: clocks are set,
 * and a machine that sleeps waits as well.
 */
void job_note_trouble(
        Job *j, uint64_t entries_done, bool has_finished_some, uint64_t begun_usec, uint64_t now_usec);
/* For how long it has been failing so. */
uint64_t job_trouble_duration(const Job *j, uint64_t now_usec) _pure_;
/* When to try a job again that somebody asked for: a pause, or 0 once patience_usec have passed since the
 * first failure in a row. */
uint64_t job_next_pause(const Job *j, uint64_t patience_usec, uint64_t now_usec) _pure_;
/* One that has not been started is not to be before then; 0: it may. 0 or -ENOMEM, which only loses the
 * reason. */
int job_put_off(Job *j, const char *reason, uint64_t not_before_usec);
/* Back to the queue, not to be started before then. 0 or -ENOMEM, which only loses the reason. */
int job_pause(Job *j, const char *reason, uint64_t not_before_usec);
/* What it is at, and what may hold it up there, for people. */
const char *job_doing(const Job *j) _pure_;
/* The state as people know it: one that is put off is waiting, though it has no worker. */
JobState job_shown_state(const Job *j) _pure_;
bool job_is_unasked(const Job *j) _pure_;
/* Whether the worker of a failed attempt is to be tried again. */
bool job_may_retry(const Job *j) _pure_;
