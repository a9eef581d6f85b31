/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the bus-*.c share. userdata of every handler is the manager, except in the vtables of overlays and
 * jobs, where the find function has looked up the object. */
#pragma once

#include "api/bus.h"

int bus_manager_attach(Manager *m);
int bus_overlay_attach(Manager *m);
int bus_job_attach(Manager *m);
int bus_log_control_attach(Manager *m);

/* Fills error from a failure and returns the negative errno a handler is to return. */
int bus_error_from_failure(sd_bus_error *error, const Failure *f);
/* The D-Bus error name of a kind; a static string. */
const char *bus_error_name(FailureKind kind);

/* Handlers of the methods that only look, in bus-query.c. */
int bus_method_get_directory(sd_bus_message *message, void *userdata, sd_bus_error *error);
int bus_method_list_directories(sd_bus_message *message, void *userdata, sd_bus_error *error);
int bus_method_list_hot(sd_bus_message *message, void *userdata, sd_bus_error *error);
int bus_method_list_blockers(sd_bus_message *message, void *userdata, sd_bus_error *error);
int bus_method_check(sd_bus_message *message, void *userdata, sd_bus_error *error);

/* In bus-remount.c. */
int bus_method_remount(sd_bus_message *message, void *userdata, sd_bus_error *error);

/* CancelJob() and Job.Cancel(). */
int bus_cancel_job(Manager *m, uint32_t id, sd_bus_message *message, sd_bus_error *error);

/* Appends a string ("" for NULL) that may come from a file system or from a message about one, as
 * utf8_escape() writes it. */
int bus_append_text(sd_bus_message *m, const char *text);
/* Appends {sv} entries; strings as above. */
int bus_append_string(sd_bus_message *m, const char *key, const char *value);
int bus_append_u64(sd_bus_message *m, const char *key, uint64_t value);
/* The entries of an a{sv} as below. */
int bus_append_directory_entries(
        sd_bus_message *message, const Manager *m, const Managed *o, const DirectoryInfo *info);
/* An a{sv} as GetDirectory() and ListDirectories() give it; info->state may be replaced by what a job makes
 * of it. */
int bus_append_directory(
        sd_bus_message *message, const Manager *m, const Managed *o, const DirectoryInfo *info);

/* Reads the value of an option, a variant; -ENXIO where that is of another type. */
typedef int (*bus_read_option_t)(sd_bus_message *message, const char *key, void *userdata, Failure *reterr);
/* Reads an a{sv}; what is of a wrong type is an explained -EINVAL. */
int bus_read_options(sd_bus_message *message, bus_read_option_t read, void *userdata, Failure *reterr);
int bus_read_flag(sd_bus_message *message, bool *ret);
/* Reads a string that may be a path, as above; owned by the caller. */
int bus_read_text(sd_bus_message *message, char **ret);

/* Answers with the object of a job. */
int bus_reply_job(Manager *m, sd_bus_message *message, const Job *j);
