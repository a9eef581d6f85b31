/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an argument stands for: an overlay by name, or a path as the caller sees it. Paths are resolved
 * here, with symlinks, since the daemon has another working directory and matches paths as strings. Whether
 * a path is on an overlay only the daemon knows. */
#pragma once

#include "ctl/ctl.h"

/* Anything with a '/', "." and ".." are paths; the rest are names of overlays. */
bool argument_is_path(const char *s) _pure_;

/* Resolves symlinks and "..", from the caller's working directory; a path on another host or in a container
 * must be absolute, and is only simplified. 0 and *ret (owned by the caller), as utf8_escape() writes it and
 * the bus wants it, or the exit code after a message "cannot <what> '<argument>': ...". */
int path_resolve(const Ctl *c, const char *what, const char *argument, char **ret);

/* The overlay an argument of verbs such as "pause" means: its name, or (a path) its mount point or something
 * below it. list is what client_list("ListOverlays") gave. Returns the record (borrowed), or NULL. argument
 * is a name or resolved. */
const Record *overlay_find(const RecordList *list, const char *argument) _pure_;

/* The state of the directory at a path, looked at anew. 0, or the exit code after a message. */
int directory_get(Ctl *c, const char *what, const char *argument, Record *ret);

/* Name of the overlay an argument means, for methods that take a name; asks the daemon when it is a path.
 * *ret_below (may be NULL) is set to the path when it lies below the mount point, else to NULL. 0, or the
 * exit code after a message. */
int overlay_resolve(Ctl *c, const char *what, const char *argument, char **ret_name, char **ret_below);
