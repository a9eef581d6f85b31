/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the bus-*.c share. userdata of every handler is the manager, except in the vtables of overlays and
 * jobs, where the find function has looked up the object. */
#pragma once

#include "api/bus.h"
#include "bus/emit.h"
#include "bus/message.h"

int bus_manager_attach(Manager *m);
int bus_overlay_attach(Manager *m);
int bus_job_attach(Manager *m);
int bus_log_control_attach(Manager *m);

/* Handlers of the methods that only look, in bus-query.c. */
int bus_method_get_directory(sd_bus_message *message, void *userdata, sd_bus_error *error);
int bus_method_list_directories(sd_bus_message *message, void *userdata, sd_bus_error *error);
int bus_method_list_hot(sd_bus_message *message, void *userdata, sd_bus_error *error);
int bus_method_list_blockers(sd_bus_message *message, void *userdata, sd_bus_error *error);
int bus_method_check(sd_bus_message *message, void *userdata, sd_bus_error *error);

/* In bus-remount.c. */
int bus_method_remount(sd_bus_message *message, void *userdata, sd_bus_error *error);

/* bus-job.c: CancelJob() and Job.Cancel(). */
int bus_cancel_job(Manager *m, uint32_t id, sd_bus_message *message, sd_bus_error *error);

/* The entries of an a{sv} as below. */
int bus_append_directory_entries(
        sd_bus_message *message, const Manager *m, const Managed *o, const DirectoryInfo *info);

/* Answers with the object of a job. */
int bus_reply_job(Manager *m, sd_bus_message *message, const Job *j);
