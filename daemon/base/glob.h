/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Patterns of paths as in Directories= and Exclude=: components separated by '/', each one a pattern of
 * fnmatch(3); "**" stands for any number of components, none included, so that "tmp/" + "**" is tmp and all
 * below it. A set of patterns is followed one component at a time, so that a walk knows what is worth
 * entering. Pure, but for allocation. */
#pragma once

#include <sys/types.h>

#include "base/macro.h"

#define GLOB_POSITIONS_MAX 128u /* components of all patterns of a set, and one for each pattern's end */

/* How far a path has come in every pattern of a set: bit i is position i. */
typedef unsigned __int128 GlobState;

typedef struct Globs {
        char **components;                /* NULL: the end of a pattern */
        GlobState is_start, is_any, ends; /* positions that begin a pattern, that are "**", that are ends */
        unsigned n;
} Globs;

/* -E2BIG: more components than GLOB_POSITIONS_MAX, -EINVAL: a pattern that is absolute or has "..". patterns
 * is NULL-terminated; NULL is an empty set, which matches nothing. */
int globs_new(char *const *patterns, Globs *ret);
void globs_done(Globs *g);
/* Of the root of the paths. */
GlobState globs_begin(const Globs *g);
/* Of an entry name in a directory whose state is s; 0: neither it nor anything below it matches. */
GlobState globs_step(const Globs *g, GlobState s, const char *name);
static inline bool globs_is_match(const Globs *g, GlobState s) {
        return (s & g->ends) != 0;
}
/* Whether something below may match. */
static inline bool globs_may_descend(const Globs *g, GlobState s) {
        return (s & ~g->ends) != 0;
}
/* The length of path, or of the uppermost directory above it, that matches; -ENOENT: none does. */
ssize_t globs_match_prefix(const Globs *g, const char *path);
static inline bool globs_match_within(const Globs *g, const char *path) {
        return globs_match_prefix(g, path) >= 0;
}
bool globs_match(const Globs *g, const char *path);
