/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The bus as the manager sees it. The vtables behind it only decode, call and encode. */
#pragma once

#include "manager/manager.h"

/* Connects, adds the objects, asks for the name; manager_is_named() is called when it is there. */
int bus_open(Manager *m);
void bus_close(Manager *m);

/* Announce objects and what happened to them. All of these only queue messages. */
void bus_announce_overlay(Manager *m, const Managed *o, bool is_there);
void bus_announce_job(Manager *m, const Job *j);
void bus_forget_job(Manager *m, const Job *j);
void bus_send_job_removed(Manager *m, const Job *j);
void bus_send_directory_changed(Manager *m, const Managed *o, const char *path, DirectoryState state);
void bus_send_remounted(Manager *m, const Managed *o, const char *method, uint64_t usec);
void bus_send_properties_changed(Manager *m, const char *object);

/* Object paths, owned by the caller; NULL on out of memory. */
char *bus_overlay_path(const char *name);
char *bus_job_path(uint32_t id);
