/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Owns everything that runs in the daemon, and is where its parts meet: overlays and jobs tell the manager
 * what happened, the manager tells the bus, the queue and the service manager. One per process, passed as
 * userdata. Nothing in it touches a file of an overlay or of its layers. */
#pragma once

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "config/config.h"
#include "jobs/queue.h"
#include "jobs/run.h"
#include "overlays/managed.h"
#include "overlays/mount-monitor.h"
#include "process/proc.h"
#include "process/query.h"
#include "service/notify.h"
#include "service/state-writer.h"

typedef struct BusAuth BusAuth; /* api/bus-auth.h */

#define MANAGER_REPLIES_MAX 64
#define MANAGER_SOURCES 2

typedef struct Manager {
        Host host;
        sd_bus *bus;    /* NULL until bus_open() */
        BusAuth *auth;  /* of those who call methods */
        char **folders; /* of the configuration */
        Config *config;
        Managed **overlays; /* sorted by name, as config->overlays */
        size_t n_overlays;
        Queue *queue;
        uint32_t last_job_id;
        Runs runs;
        QueryPool *queries;
        MountMonitor *monitor;
        Notifier *notifier;
        sd_event_source *work_source;   /* starts jobs */
        sd_event_source *release_timer; /* lets those start again that are put off */
        sd_event_source *flush_source;  /* tells the bus and the service manager what changed */
        sd_event_source *stop_timer;
        char **changed_objects; /* object paths whose properties changed since the last flush */
        bool is_manager_changed;
        bool is_state_changed; /* what state.h saves */
        StateWriter *state_writer;
        sd_bus_message *replies[MANAGER_REPLIES_MAX]; /* that wait for it */
        size_t n_replies;
        sd_event_source *reply_timer;
        StateWriter *heat_writer;
        sd_event_source *heat_timer;     /* saves it */
        Source sources[MANAGER_SOURCES]; /* of heat, for all overlays */
        bool is_ready;
} Manager;

int manager_new(Manager **ret);
Manager *manager_free(Manager *m);
DEFINE_CLEANUP(Manager *, manager_free);
/* Configuration, state, mounts. */
int manager_startup(Manager *m);
/* Reads the configuration anew; on failure the old one stays in force. */
int manager_reload(Manager *m);
/* The bus has given us our name: readiness is reported. */
void manager_is_named(Manager *m);

Managed *manager_find_overlay(const Manager *m, const char *name);
/* The same; NULL is a failure that says so. */
Managed *manager_get_overlay(const Manager *m, const char *name, Failure *reterr);
/* Finds the overlay path (absolute) is on, and the path relative to its mount point. -EINVAL for a path that
 * is not absolute or has "..", -ENOENT when no configured overlay has it; the failure says so. The overlay
 * may be absent. */
int manager_find_path(
        const Manager *m, const char *path, Managed **ret, char **ret_relative, Failure *reterr);

/* Makes a job for path, or finds one that waits and does the same. The failure says why there is none. */
int manager_add_job(
        Manager *m, JobType type, const char *path, const JobOptions *options, Job **ret, Failure *reterr);
/* The same for one that remounts an overlay, by name. */
int manager_add_remount(
        Manager *m, const char *overlay, const JobOptions *options, Job **ret, Failure *reterr);
/* -ENOENT when there is no such job, -ESRCH when it has finished already. */
int manager_cancel_job(Manager *m, uint32_t id, Failure *reterr);
/* Jobs of overlay (NULL: of all) do not start, or do again. Those that run go on. -ENOENT */
int manager_set_paused(Manager *m, const char *overlay, bool is_paused, Failure *reterr);

/* Starts what may start. */
void manager_start_jobs(Manager *m);
/* The list of jobs in the state directory, see state.h. */
void manager_save_state(Manager *m);
void manager_load_state(Manager *m);
/* Sends a reply that promises a job when the list has been written, so that a crash does not take back what
 * was promised; but soon in any case, for nobody waits for a disk. */
int manager_reply_when_saved(Manager *m, sd_bus_message *reply);
/* Sends those that wait. */
void manager_send_replies(Manager *m);
/* How much directories are used, see heat-state.h. */
void manager_save_heat(Manager *m);

/* What is shown of it has changed. */
void manager_overlay_changed(Managed *o);
void manager_job_changed(Manager *m, Job *j);
/* Ends all jobs of an overlay that cannot go on, with the same failure. */
void manager_fail_jobs(Managed *o, FailureKind kind, const char *reason);
/* manager-jobs.c: what manager.c tells of overlays, and hears of jobs. */
void manager_lower_changed(Managed *o, JobType type, const char *path);
void manager_used(Managed *o, const char *path, const Use *use);
/* manager-sources.c: the sources of heat that are one process for all overlays (overlays/source.h). What is
 * known of an overlay has changed, or it goes; all that they are to look for has. */
void manager_init_sources(Manager *m);
void manager_tell_sources(Manager *m, Managed *o, bool is_going);
void manager_update_sources(Manager *m);
void manager_restart_sources(Manager *m);
void manager_free_sources(Manager *m);
/* Since when lookups of an overlay that find nothing are counted (monotonic), 0: they are not. */
uint64_t manager_misses_usec(const Manager *m, const Managed *o);
/* Whether lookups of an overlay that find nothing are counted: else none are known of. */
bool manager_counts_misses(const Manager *m, const Managed *o);
/* What is shown of one, of an overlay: its state and, in *ret_reason, why. NULL: there are no more. */
const char *manager_source_state(
        const Manager *m, const Managed *o, unsigned i, const char **ret_name, const char **ret_reason);
extern const RunEvents manager_run_events;
/* Looks soon whether a job can start. */
void manager_wake(Manager *m);
/* Tells the bus soon, or at once, e.g. before a reply that promises it, what changed. */
void manager_schedule_flush(Manager *m);
void manager_flush(Manager *m);

/* Makes the job that swaps in the configured Options= if the running overlay lacks one. */
void manager_want_options(Managed *o);
