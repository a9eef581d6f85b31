/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A tree in a file. In staging it is the snapshot from which a crash is repaired; in the state directory it
 * is the record of what a directory held when it was finalized, without which undo could not tell "deleted
 * by a user" from "added to the lower since".
 *
 * Format: NUL-terminated strings, because names may hold every other byte. "ovlfind-manifest 4", then
 * "key=value" lines, then for each directory "D" + path, its fields, "I" + the identity of its lower
 * directory if it has one of its own, and "E" fields for each entry; last "Z" and a checksum. A file that
 * does not end so was cut short and is refused. */
#pragma once

#include "base/states.h"
#include "core/record/tree.h"

#define MANIFEST_SIZE_MAX ((size_t) 1 << 30)

/* Writes t as name in dfd. sync: durable before it returns (file_write_atomic); otherwise it survives a
 * killed process but not a lost machine. */
int manifest_write(Tree *t, int dfd, const char *name, bool sync);
/* -EBADMSG: not a manifest, or damaged. */
int manifest_read(int dfd, const char *name, Tree **ret);

/* All records of an overlay, indexed by the file handles of the directories they made. */
typedef struct Records Records;

/* Those that are about the upper with this root; the others have handles of another file system. Damaged
 * ones are left out, and counted. */
int records_load(int dfd, int upper_fd, Records **ret);
Records *records_free(Records *r);
DEFINE_CLEANUP(Records *, records_free);
/* The node recorded for the upper directory with this handle, or NULL. Borrowed. */
const Node *records_find(const Records *r, const char *handle);
/* What a comparison with the lower has found of a finalized directory. */
typedef struct Finding {
        char *handle; /* of the directory in the upper */
        DirectoryState state;
        char *reason;
} Finding;
/* NULL: nothing. Borrowed. */
const Finding *records_find_finding(const Records *r, const char *handle);
/* Replaces all findings; n may be 0. */
int findings_write(int dfd, const Finding *items, size_t n);
void findings_free(Finding *items, size_t n);

unsigned records_n_damaged(const Records *r) _pure_;
/* Renames damaged ones, so that they are not looked at any more: ".damaged-" + name. */
int records_set_damaged_aside(int dfd);
/* Calls func for the root of each record. */
int records_foreach(const Records *r, int (*func)(const Tree *t, void *userdata), void *userdata);
/* Removes the records of whose directories none exists any more. Syncs the upper before. */
int records_prune(const Records *r, int dfd, int upper_fd);

/* Where the records of an upper with this path would be that was worked on before it was ever managed, below
 * state_dir/records. Owned by the caller; NULL on out of memory. */
char *records_default_name(const char *upper);
