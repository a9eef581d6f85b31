/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the daemon remembers of its jobs over its own end: which were not finished, so that they do not
 * vanish silently, and the last number, so that none is given twice. What such a job had begun is not in it:
 * that stands in the staging directory of its overlay, and the next survey puts it in order. The file is
 * replaced in one step but not synced: after a power loss it may be gone, which costs nothing but this list.
 */
#pragma once

#include "jobs/queue.h"

#define STATE_FILE_NAME "jobs"

typedef struct SavedJob {
        uint32_t id;
        JobType type;
        unsigned n_attempts; /* workers started for it */
        bool can_go_on;      /* it had no options that are lost with the daemon */
        uid_t uid;           /* who asked; only if it can go on */
        uint64_t queued_usec;
        const char *overlay;
        const char *mount_point;
        const char *path; /* relative to the mount point */
} SavedJob;

typedef void (*saved_job_func)(const SavedJob *j, void *userdata);

/* Dry runs are not worth it, and automatic jobs come again by themselves: the heat of their directories is
 * saved. */
char *state_format(uint32_t last_id, const Queue *q); /* owned by the caller, NULL on out of memory */
/* Calls func for every job. -ENOENT: nothing saved; -EBADMSG: not understood, moved aside. *ret_last_id is
 * set on success only. */
int state_load(const char *state_dir, saved_job_func func, void *userdata, uint32_t *ret_last_id);
