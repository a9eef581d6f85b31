/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files bus-*.c share: how objects are attached, the handlers of methods, the flags of properties.
 * A handler is named in bus-members.c alone, so none is reached past bus-auth.h. userdata of every getter is
 * the manager; in the vtables of overlays and jobs it is the object that the find function has looked up. */
#pragma once

#include "api/bus-auth.h"
#include "api/bus.h"
#include "bus/emit.h"
#include "bus/message.h"

int bus_manager_attach(Manager *m);
int bus_overlay_attach(Manager *m);
int bus_job_attach(Manager *m);
int bus_log_control_attach(Manager *m);

/* bus-members.c: every method of ours, every property that can be set. */
extern const BusMember bus_members[];

#define MINUTE_SEC 60
/* A rate in seconds, as the bus tells it. */
static inline uint64_t bus_per_minute(double rate) {
        return (uint64_t) (rate * MINUTE_SEC + 0.5);
}

/* Properties never change, or are told when they do. */
#define IS_CONST SD_BUS_VTABLE_PROPERTY_CONST
#define EMITS_CHANGE SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE
#define EMITS_INVALIDATION SD_BUS_VTABLE_PROPERTY_EMITS_INVALIDATION

/* Their handlers, which only that table names. bus-manager.c: */
bus_handler_t bus_method_add_job, bus_method_list_overlays, bus_method_pause, bus_method_reload;
/* bus-remount.c, bus-hot.c: */
bus_handler_t bus_method_remount, bus_method_list_hot;
/* bus-job.c: */
bus_handler_t bus_method_list_jobs, bus_method_cancel_job, bus_method_cancel;
/* bus-query.c: */
bus_handler_t bus_method_get_directory, bus_method_list_directories, bus_method_check,
        bus_method_list_blockers;
/* bus-log-control.c: */
bus_handler_t bus_set_log_level, bus_set_log_target;

/* The entries of an a{sv} as below. */
int bus_append_directory_entries(
        sd_bus_message *message, const Manager *m, const Managed *o, const DirectoryInfo *info);

/* Answers with the object of a job, or with nothing for NULL, when what has changed is saved. */
int bus_reply_job(Manager *m, sd_bus_message *message, const Job *j);
