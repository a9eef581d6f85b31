/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A configured overlay while the daemon runs: whether it is mounted and usable, what is known of its
 * directories, which workers keep old trees. It makes no job and knows no bus: what happens goes out by
 * ManagedEvents. No file of the overlay is touched; what is known of directories, workers have told. */

/* The states: absent until the mount table has it; starting while a survey looks at what is there, and
 * finishes what a crash left; then active, or refused with the reason. Jobs start only while it is active.
 */
#pragma once

#include "config/config.h"
#include "core/mount/mount-table.h"
#include "core/mount/overlay.h"
#include "overlays/counters.h"
#include "overlays/directory-table.h"
#include "overlays/heat.h"
#include "overlays/watching.h"
#include "process/host.h"
#include "service/log.h"

typedef enum ManagedState {
        MANAGED_ABSENT,
        MANAGED_STARTING,
        MANAGED_ACTIVE,
        MANAGED_REFUSED,
        _MANAGED_STATE_MAX,
} ManagedState;

typedef struct Keeper Keeper; /* a worker that keeps old trees, or an old superblock, in keeper.c */
typedef struct Managed Managed;

/* Whom an overlay and its parts tell, and ask. Every member is set. */
typedef struct ManagedEvents {
        void (*changed)(Managed *o); /* what is shown of it */
        void (*directory_changed)(Managed *o, const char *path, DirectoryState state);
        void (*wake)(Managed *o); /* jobs may start now, or no more */
        void (*fail_jobs)(Managed *o, FailureKind kind, const char *reason); /* all that cannot go on */
        void (*may_remount)(Managed *o); /* a time to swap in the configured options */
        void (*keeper_lost)(
                Managed *o, bool at_once); /* it ended before its work was done: see what it left */
        void (*lower_changed)(Managed *o, JobType type, const char *path); /* a job that is wanted for it */
        void (*used)(Managed *o, const char *path, const Use *use);        /* see heat.h */
        void (*watcher_started)(Managed *o);
        void (*catch_up)(Managed *o);         /* with changes of the mount table that are not told yet */
        bool (*is_at_work)(const Managed *o); /* a job has a worker */
} ManagedEvents;

struct Managed {
        const Host *host;
        const ManagedEvents *events;
        void *userdata;        /* of events */
        OverlayConfig *config; /* reference */
        ManagedState state;
        char *reason;        /* why it is absent or refused; NULL otherwise */
        FailureKind refusal; /* of a refused one */
        Overlay *overlay;    /* as of the last look at the mount table; NULL when absent */
        char *options;       /* all options the mount had then, to notice a remount */
        DirectoryTable *directories;
        Counters counters;
        uint64_t begun_usec; /* monotonic: since when they count */
        bool is_paused;
        Proc *survey;
        bool is_survey_wanted; /* once more, after the one that runs */
        unsigned n_survey_failures;
        sd_event_source *retry; /* or, while a survey runs, what tells that it takes long */
        uint64_t retry_usec; /* until the next look at a refused overlay, or at what could not be finished */
        Keeper *keepers;
        uint64_t keeper_lost_usec;   /* monotonic; when one ended before its work was done, 0 never */
        uint64_t options_tried_usec; /* monotonic: when the configured options were last to be swapped in; 0:
                                        never */
        Source watching;             /* of opens */
        Coverage coverage;           /* of the configuration */
        dev_t told;                  /* the superblock as the sources for all overlays know it, 0: none */
        sd_event_source *left_out;   /* until it ends: such a source hung at it, and is not told of it */
        uint64_t left_out_usec, left_out_pause_usec; /* since when (monotonic), and how long */
        HeatTable *heat;
        bool is_heat_changed;
        sd_event_source *automatic_timer; /* when time alone may let a job be made or started */
        Proc *compare;                    /* with the lower layers, and an audit, now and then */
        uint64_t n_problems;              /* the last one found */
        char *unproved;       /* why the lower layers are not compared with; NULL: they are proved, or it
                                 is not known yet */
        bool is_proof_wanted; /* the mount table has changed since */
        bool has_worked;      /* a job has run since the last comparison began */
        sd_event_source *compare_timer;
};

int managed_new(
        const Host *host, const ManagedEvents *events, void *userdata, OverlayConfig *config, Managed **ret);
Managed *managed_free(Managed *o);
DEFINE_CLEANUP(Managed *, managed_free);

const char *managed_state_to_string(ManagedState s) _pure_;
/* Of an entry of the journal about it. */
#define MANAGED_FIELDS(o, message)                                                                          \
        (&(const LogFields){                                                                                \
                .message_id = (message), .overlay = (o)->config->name, .path = (o)->config->mount_point })
/* Compares with a mount table read just now; loads, drops or surveys the overlay when its mount is another
 * one. */
void managed_update_mount(Managed *o, const MountTable *table);
/* Takes a new configuration of the same name. */
void managed_set_config(Managed *o, OverlayConfig *config, const MountTable *table);
/* Looks again at what is there: after a worker died, or when a precondition may hold now. */
void managed_survey(Managed *o);
/* managed-compare.c: the next comparison with the lower layers; 0: soon. */
void managed_schedule_compare(Managed *o, uint64_t usec);
/* After a survey: soon, but RandomizedDelaySec= spreads it. */
void managed_schedule_first_compare(Managed *o);
/* The mount table has changed: where a lower layer's path did not lead to it, it may do so now. */
void managed_want_proof(Managed *o);
/* Whether jobs may start. */
bool managed_is_open(const Managed *o) _pure_;
/* Why no job can be made for it: 0, or a negative errno and the failure. Starting overlays take jobs. */
int managed_check_usable(const Managed *o, const char *path, Failure *reterr);
/* Old trees kept because somebody stands in them. */
unsigned managed_count_kept(const Managed *o) _pure_;
/* Whether a remount may start, and why none can be made. */
bool managed_is_remountable(const Managed *o) _pure_;
int managed_check_remountable(const Managed *o, Failure *reterr);
/* Another survey, later each time. */
void managed_schedule_retry(Managed *o);

/* A request about path (relative) of the overlay with everything the worker needs to know. */
void managed_make_request(const Managed *o, JobType verb, const char *path, WireRequest *q);
/* What such a request says besides when nobody waits for the answer. */
void managed_make_background(const Managed *o, WireRequest *q);
/* What a WIRE_DIRECTORY record says; the strings are the record's. */
DirectoryInfo directory_info_from_record(const WireRecord *r);
/* Takes in a WIRE_DIRECTORY record. 1: the directory became finalized by this. */
int managed_learn(Managed *o, const WireRecord *r);
