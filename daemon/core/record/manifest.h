/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A tree in a file. In staging it is the snapshot from which a crash is repaired; in the state directory it
 * is the record of what a directory held when it was finalized, without which undo could not tell "deleted
 * by a user" from "added to the lower since". What is in a tree is tree.h's. A file that was cut short is
 * refused; a change that was cut short when it was appended is as if it had not been written. */

/* Format: NUL-terminated strings, because names may hold every other byte. "ovlfind-manifest 5", then
 * "key=value" lines, then for each directory "D" + path, its fields, "I" + the identity of its lower
 * directory, empty if it has none of its own, and "E" fields for each entry; last "Z" and a checksum of all
 * before. A file without that was cut short and is refused.
 *
 * What changes is appended, each time as one part: of each directory its "D" lines anew, "-" + name for each
 * entry that is gone, the "E" line of each one that is new or another by now; last "Z" and a checksum of all
 * from the "Z" before it on. A part that was cut short, by a kill or a lost machine, is as if it had not
 * been written, and so is what follows it. */
#pragma once

#include "base/states.h"
#include "core/record/tree.h"

#define MANIFEST_SIZE_MAX ((size_t) 1 << 30)

/* Writes t as name in dfd; durable before it returns (file_write_atomic). */
int manifest_write(Tree *t, int dfd, const char *name);
/* The same for what has changed at and below n since the tree was read from that file, or written to it by
 * this function: appended, as one part. Where that cannot be, or the file has grown too much by it, all of
 * it is written anew. Nobody else may write it meanwhile. sync: durable before it returns; otherwise it
 * survives a killed process, and of a lost machine as much as was written up to some part. */
int manifest_update(Node *n, int dfd, const char *name, bool sync);
/* Whether that is the file, with nothing in it that t does not know of. */
bool manifest_is_same(const Tree *t, int dfd, const char *name);
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
/* Removes the records of whose directories none exists any more, and what was not written to its end. Syncs
 * the upper before. */
int records_prune(const Records *r, int dfd, int upper_fd);

/* Where the records of an upper with this path would be that was worked on before it was ever managed, below
 * state_dir/records. Owned by the caller; NULL on out of memory. */
char *records_default_name(const char *upper);
