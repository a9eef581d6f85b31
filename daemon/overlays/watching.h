/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The watcher of an overlay: its source of opens (source.h), a worker process that lives as long as the
 * overlay is there. It is the only one to ask for inotify events, and has to know where other workers are
 * at work: what they do is no use of a directory. */
#pragma once

#include "base/glob.h"
#include "config/config.h"
#include "overlays/source.h"

typedef struct Managed Managed;

void watching_init(Managed *o);

/* Of which directories use is looked for: Directories= and Exclude=, compiled. */
typedef struct Coverage {
        Globs want, exclude;
        bool is_known; /* there was memory for it */
} Coverage;

void coverage_set(Coverage *c, const Settings *s);
void coverage_done(Coverage *c);
bool coverage_has(const Coverage *c, const char *path);

/* The superblock has been reconfigured: all watches may be dead, and are set anew. */
void watching_rearm(const Managed *o);
/* Nothing at path (relative) or below is watched until watching there is resumed: marks cannot be set on
 * what is watched. Nor are, with_parents, the directories above and what is in them. */
void watching_pause(const Managed *o, const char *path, bool with_parents);
/* A job at path has ended, whether watching paused for it or not: what is there may be other directories,
 * and is watched anew. */
void watching_resume(const Managed *o, const char *path);
/* A worker begins, or has ended, to look at the directories at path, below it and above it: that it lists
 * them is not use. */
void watching_look(const Managed *o, const char *path, bool begins);
