/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Paths as strings: joined, split and compared. Nothing here touches a file, nor follows a symlink.
 * "Relative" paths have no leading, trailing or double '/', no "." and no ".."; the empty string is the root
 * they are relative to. */
#pragma once

#include "base/macro.h"

/* Joins with one '/'; an empty part vanishes. NULL on out of memory. */
char *path_join(const char *a, const char *b);
/* Whether path is prefix or lies below it; prefix "" or "/" holds for everything. Returns what follows
 * (without '/'), or NULL. "/up" is no prefix of "/upper". */
const char *path_startswith(const char *path, const char *prefix) _pure_;
/* Removes double slashes and "." in place, and a trailing slash. -EINVAL on "..". */
int path_simplify(char *path);
/* Owned paths. */
typedef struct PathList {
        char **items;
        size_t n;
} PathList;

#define _cleanup_paths_ _cleanup_(path_list_done)

/* Adds a copy of path. -ENOMEM. */
int path_list_add(PathList *l, const char *path);
/* The last one, owned by the caller; NULL: there is none. */
char *path_list_take(PathList *l);
/* Parents before what is below them, each once. */
void path_list_sort(PathList *l);
/* Of a sorted list. */
bool path_list_has(const PathList *l, const char *path);
void path_list_done(PathList *l);
/* The last component (borrowed), and a copy of what precedes it ("" if nothing). */
const char *path_basename(const char *path) _pure_;
char *path_dirname(const char *path);
