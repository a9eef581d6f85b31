/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The preconditions of finalizing directories of an overlay: one finding each, with a level, a text, and
 * what to do about it. A finding never keeps the others from being looked at. Only a level "fail" rules the
 * overlay out; each id has a section in docs/checks.md. */
#pragma once

#include "base/states.h"
#include "core/mount/overlay.h"

typedef struct Check {
        const char *id; /* stable, e.g. "metacopy"; static */
        CheckLevel level;
        char *text;   /* what was found */
        char *advice; /* what to change; NULL when ok */
} Check;

typedef struct CheckList {
        Check *items;
        size_t n;
} CheckList;

/* Where the machine is looked at; tests point these elsewhere. NULL members: /proc,
 * /sys/module/overlay/parameters. */
typedef struct CheckSources {
        const char *proc;
        const char *parameters;
} CheckSources;

/* Runs all checks; ok ones are listed too, those that do not apply are not. o was loaded from this mount
 * namespace. Blocks: touches the upper and the overlay's root, never a lower layer, and scans /proc for
 * other mounts of the same upper. Changes nothing that outlives the call (the probes use files without a
 * name, or with one of their own, in the work directory, removed at once). Returns a negative errno only
 * when the checks themselves could not run. */
int overlay_check(const Overlay *o, CheckList *ret);
int overlay_check_from(const CheckSources *sources, const Overlay *o, CheckList *ret);
/* Whether the paths of the lower layers of o, which is taken over, lead to them. The only check that asks a
 * lower layer, for a few seconds at most: what does not answer is left to a thread, which may keep
 * the process from ending: 1. A text of *ret is the caller's. */
int overlay_check_lower(Overlay *o, Check *ret);
/* The finding of that id, or NULL. */
const Check *check_list_find(const CheckList *l, const char *id) _pure_;
/* Turns the first failed check into a FAILURE_PRECONDITION naming the mount point; 0 if none failed. */
int check_list_to_failure(const CheckList *l, const Overlay *o, Failure *reterr);
void check_list_done(CheckList *l);
