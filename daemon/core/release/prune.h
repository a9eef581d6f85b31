/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Removes from the upper what stands for something that was removed from the lower and carries nothing of
 * its own; what somebody has changed here stays. Of a directory that is gone it does not judge by one answer
 * of the lower alone (lower_is_removed()), unless somebody vouches for it (--force). Each entry goes by a
 * step of its own, so a kill at any instant leaves what was not reached yet. */
#pragma once

#include "core/context/error-scope.h"
#include "core/lower/lower.h"
#include "core/record/record-edit.h"
#include "core/state/report.h"
#include "core/upper/layer.h"

typedef struct Prune {
        Context *context;
        const Records *records;
        RecordEditor editor;
        const Lower *lower;
        const WorkHooks *hooks;
        bool is_dry_run;
        bool has_others; /* other files with the same content took the place of some, see RefreshChange */
        WorkCounts counts;
        Failure *reterr; /* of the run */
} Prune;

/* Everything at or below path. What carries something of its own stays and is noted. A lower that does not
 * tell is noted, and ends in FAILURE_LOWER_UNREACHABLE after all else has been done. */
int prune_run(Prune *p, const char *path, Failure *reterr);
/* A finalized directory whose lower directory was removed: its entries, then itself if nothing is left. */
int prune_gone(Prune *p, const Node *n, const char *path, int upper_fd);
/* prune-merged.c: what is not finalized. *unknown: what the lower did not tell. */
int prune_merged(Prune *p, const char *path, Failure *unknown);
/* Whether the lower entry that path stands for was removed for sure: 1; 0: it is there, or it is not known,
 * which is noted, and moved to *unknown. */
int prune_is_lower_gone(Prune *p, const char *path, const char *lower, Failure *unknown);
/* A directory whose lower directory was removed, if nothing is left in it. 1: it was removed. */
int prune_directory_gone(Prune *p, const char *path);
/* What is to be done with one entry: removed (1), or only told, or it stays, and that is noted (0). */
int prune_entry(
        Prune *p,
        int upper_fd,
        const char *path,
        const char *name,
        const UpperEntry *e,
        bool is_locally_modified);
/* r: of one entry. What belongs to that one alone leaves it, with a note, and the others are pruned: 0. dfd,
 * name: as error_reason() has them. */
int prune_leave(
        Prune *p, ErrorCall call, const char *what, int dfd, const char *name, const char *path, int r);
