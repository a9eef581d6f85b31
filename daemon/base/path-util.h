/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Paths as strings; nothing here touches a file. "Relative" paths have no leading, trailing or double '/',
 * no "." and no
 * ".."; the empty string is the root they are relative to. */
#pragma once

#include "base/macro.h"

/* Joins with one '/'; an empty part vanishes. NULL on out of memory. */
char *path_join(const char *a, const char *b);
/* Whether path is prefix or lies below it; prefix "" or "/" holds for everything. Returns what follows
 * (without '/'), or NULL. "/up" is no prefix of "/upper". */
const char *path_startswith(const char *path, const char *prefix) _pure_;
/* Removes double slashes and "." in place, and a trailing slash. -EINVAL on "..". */
int path_simplify(char *path);
/* A growing array of owned paths. A copy of path is appended. -ENOMEM. */
int path_list_add(char ***items, size_t *n, const char *path);
/* Sorts, parents before what is below them, and frees doubles. Returns how many are left. */
size_t path_list_sort(char **items, size_t n);
void path_list_free(char **items, size_t n);
/* The last component (borrowed), and a copy of what precedes it ("" if nothing). */
const char *path_basename(const char *path) _pure_;
char *path_dirname(const char *path);
