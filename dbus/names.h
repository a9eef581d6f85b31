/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names on the bus, shared by the daemon and its client; the interface document fixes them. */
#pragma once

#define OVLFIND_BUS_NAME "org.ovlfind1"
#define OVLFIND_OBJECT_PATH "/org/ovlfind1"
#define OVLFIND_OVERLAY_PATH_PREFIX "/org/ovlfind1/overlay"
#define OVLFIND_JOB_PATH_PREFIX "/org/ovlfind1/job"

#define OVLFIND_MANAGER_INTERFACE "org.ovlfind1.Manager"
#define OVLFIND_OVERLAY_INTERFACE "org.ovlfind1.Overlay"
#define OVLFIND_JOB_INTERFACE "org.ovlfind1.Job"

/* Followed by failure_kind_to_string(), except for FAILURE_FAILED: that is SD_BUS_ERROR_FAILED. */
#define OVLFIND_ERROR_PREFIX "org.ovlfind1.Error."

/* See org.freedesktop.LogControl1(5). */
#define LOG_CONTROL_OBJECT_PATH "/org/freedesktop/LogControl1"
#define LOG_CONTROL_INTERFACE "org.freedesktop.LogControl1"
