/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Overlays to run checks on. */
#pragma once

#include "unit.h"

#include "core/check/check.h"

/* Mounts an overlay of directories below the scratch directory, which are made if missing; more begins with
 * ','. */
void mount_layers(
        const char *lower, const char *upper, const char *work, const char *target, const char *more);
/* The overlay at target, below the scratch directory; the caller frees it. */
Overlay *load_overlay(const char *target);
/* l, u, w and mp, with all that is needed. */
Overlay *mount_good(void);

/* Whether the finding is there, and says so. */
void assert_finding(
        const CheckList *l, const char *id, CheckLevel level, const char *text, const char *advice);
void assert_check(const Overlay *o, const char *id, CheckLevel level, const char *text, const char *advice);
