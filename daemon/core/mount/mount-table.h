/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Mount tables of this and of other mount namespaces as plain values: libmount reads the lines, this file
 * adds what it does not keep (the options as the kernel spells them) or does not know (which mount a path
 * really reaches). Reads /proc only. */
#pragma once

#include <sys/types.h>

#include "base/macro.h"

typedef struct MountEntry {
        int id;
        int parent_id;
        dev_t device;
        char *root;   /* of the mount within its file system, unescaped */
        char *target; /* mount point, unescaped, as seen from the root of the process the table belongs to */
        char *type;   /* of the file system */
        char *source; /* "none" if there is none */
        unsigned long propagation_flags; /* the same as MS_SHARED, MS_SLAVE, MS_UNBINDABLE, MS_PRIVATE */
        char *vfs_options;               /* of the mount */
        char *propagation; /* the optional fields: "shared:1 master:2", "" for a private mount */
        char *fs_options;  /* of the superblock; octal escapes not decoded, so that a ',' always separates
                              options */
} MountEntry;

typedef struct MountTable {
        MountEntry *items;
        size_t n;
} MountTable;

#define MOUNTINFO "/proc/self/mountinfo"

/* Reads a file in the format of /proc/PID/mountinfo. Lines that are no mount are left out. */
int mount_table_read(const char *path, MountTable *ret);
void mount_table_done(MountTable *t);
#define _cleanup_table_ _cleanup_(mount_table_done)

const MountEntry *mount_table_find(const MountTable *t, int id) _pure_;
/* The mount a lookup of path (absolute, no "..", no symlinks) ends on: its root is path, or the nearest
 * mount point above that is not hidden. NULL when the table is empty. */
const MountEntry *mount_table_reach(const MountTable *t, const char *path) _pure_;
/* The options before the first one named key, or NULL: "metacopy=on" gives "on", a bare "ro" gives "".
 * Copies and decodes into *ret; returns 1 if found, 0 if not. *iterator (NULL to begin with) remembers where
 * to go on for options that may repeat. */
int mount_options_next(const char *options, const char *key, const char **iterator, char **ret);
/* Removes the backslashes overlayfs takes for escapes. */
void mount_option_unescape(char *s);
bool mount_options_have(const char *options, const char *key) _pure_;

/* Calls func once for each mount namespace of the processes below proc (NULL: /proc), and again for a
 * process of the same namespace with another root, because its table shows other mounts. Processes that
 * vanish or may not be read are passed over. A negative return of func ends the walk and is passed on. */
typedef int (*mount_namespace_func)(const MountTable *t, pid_t pid, const char *namespace, void *userdata);
int mount_namespaces_foreach(const char *proc, mount_namespace_func func, void *userdata);
