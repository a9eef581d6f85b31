/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* NULL-terminated arrays of owned strings. NULL is the empty array, as is one with nothing but its end. They
 * know nothing of what is in them, and are searched from the front: for a few strings, not for many. An
 * array that could not be extended, for want of memory, is as it was before. */
#pragma once

#include "base/str.h"

size_t strv_length(char *const *l) _pure_;
bool strv_contains(char *const *l, const char *s) _pure_;
char **strv_free(char **l);
DEFINE_CLEANUP(char **, strv_free);
/* Appends *s and takes it over. -ENOMEM leaves both as they were. */
int strv_push(char ***l, char **s);
/* Appends a copy of s. -ENOMEM leaves *l as it was. */
int strv_extend(char ***l, const char *s);
/* Copies a; 0 or -ENOMEM. */
int strv_copy(char *const *a, char ***ret);
/* One string, words separated by blanks; "" for none. NULL on out of memory. */
char *strv_join(char *const *l);

#define STRV_FOREACH(s, l) for (char *const *s = (l); s && *s; s++)
#define _cleanup_strv_free_ _cleanup_(strv_freep)
