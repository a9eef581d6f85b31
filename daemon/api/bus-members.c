/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who may what: the one table of all methods, and of all properties that can be set, with the action that
 * each needs and its handler. It decides nothing by itself, see bus-auth.h. A handler is reached by this
 * table only: what is not in it nobody may. */
#include "api/bus-internal.h"
#include "dbus/names.h"

#define MANAGER OVLFIND_MANAGER_INTERFACE

const BusMember bus_members[] = {
        { MANAGER, "Finalize", BUS_ACTION_FINALIZE, bus_method_add_job },
        { MANAGER, "Unfinalize", BUS_ACTION_UNFINALIZE, bus_method_add_job },
        { MANAGER, "Refresh", BUS_ACTION_FINALIZE, bus_method_add_job },
        { MANAGER, "Prune", BUS_ACTION_PRUNE, bus_method_add_job },
        { MANAGER, "Verify", BUS_ACTION_FINALIZE, bus_method_add_job },
        { MANAGER, "Remount", BUS_ACTION_REMOUNT, bus_method_remount },
        { MANAGER, "CancelJob", BUS_ACTION_MANAGE, bus_method_cancel_job },
        { MANAGER, "Pause", BUS_ACTION_MANAGE, bus_method_pause },
        { MANAGER, "Resume", BUS_ACTION_MANAGE, bus_method_pause },
        { MANAGER, "Reload", BUS_ACTION_MANAGE, bus_method_reload },
        { MANAGER, "GetDirectory", BUS_ACTION_ASK, bus_method_get_directory },
        { MANAGER, "Check", BUS_ACTION_ASK, bus_method_check },
        { MANAGER, "ListBlockers", BUS_ACTION_ASK, bus_method_list_blockers },
        { MANAGER, "ListDirectories", BUS_ACTION_LOOK, bus_method_list_directories },
        { MANAGER, "ListHot", BUS_ACTION_LOOK, bus_method_list_hot },
        { MANAGER, "ListOverlays", BUS_ACTION_LOOK, bus_method_list_overlays },
        { MANAGER, "ListJobs", BUS_ACTION_LOOK, bus_method_list_jobs },
        { OVLFIND_JOB_INTERFACE, "Cancel", BUS_ACTION_MANAGE, bus_method_cancel },
        { LOG_CONTROL_INTERFACE, "LogLevel", BUS_ACTION_MANAGE, bus_set_log_level },
        { LOG_CONTROL_INTERFACE, "LogTarget", BUS_ACTION_MANAGE, bus_set_log_target },
        { NULL },
};
