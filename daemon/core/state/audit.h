/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The state of directories, from what the upper says and what the running mount does. Reads only.
 * "Finalized" is said only where the mount was seen to answer from the upper alone; marks that are not in
 * effect are "pending". A directory that cannot be read is told and passed over; the others are looked at.
 */
#pragma once

#include "core/context/context.h"
#include "core/record/manifest.h"

typedef struct DirectoryReport {
        const char *path; /* relative to the overlay's root; borrowed */
        DirectoryState state;
        char *reason;       /* NULL if the state says it all */
        char *lower_path;   /* relative to the root of the lower layers, "" is the root; NULL if unknown or
                               none */
        const char *scheme; /* "redirect" for a directory with marks, else NULL; static */
        uint64_t n_entries;
        uint64_t n_merge_children;
        uint64_t finalized_usec; /* realtime, 0 unknown */
} DirectoryReport;

void directory_report_done(DirectoryReport *r);

/* Fills *ret for one directory. -ENOENT, -ENOTDIR, -EXDEV (another mount): reterr says so. Blocks: may ask
 * the lower. */
int audit_directory(
        const Context *context,
        const Records *records,
        const char *path,
        DirectoryReport *ret,
        Failure *reterr);

/* 1: nothing below this directory. */
typedef int (*report_func)(const DirectoryReport *r, void *userdata);
/* Reports every directory that is pure in the upper at or below path, and is not local: what finalizing
 * made. Walks the upper only; each directory found is then looked at through the overlay. */
int audit_tree(
        const Context *context, const Records *records, const char *path, report_func func, void *userdata);
/* The topmost finalized directories at or below path: what there is to undo. Without --force those below
 * path whose record is lost are left out, with a note. Appended to *ret. */
int audit_find_finalized(const Context *context, const Records *records, const char *path, PathList *ret);
/* Merged directories inside of pure ones at or below path: moved there after it was finalized. Appended to
 * *ret. */
int audit_find_merged(const Context *context, const char *path, PathList *ret);
/* What an upper directory was before it was finalized: what the redirects of its children say. -ENODATA if
 * none says. */
int audit_guess_lower(int upper_fd, char **ret);

typedef int (*upper_func)(int dfd, const char *name, unsigned char type, const char *path, void *userdata);
/* Calls func for everything below path in the upper, names of ours included. 1: nothing below this
 * directory. */
int audit_upper(const Context *context, const char *path, upper_func func, void *userdata);
/* Looks through the whole upper for an entry that was in the directory path when it was finalized (with this
 * lower path) and has another name now. Merging the directory without its record would make the old name
 * come back beside it, and the two would be one inode to the kernel. 1 and its path, 0 when
 * there is none. */
int audit_find_alias(const Context *context, const char *path, const char *lower, char **ret);
/* Notes the old trees that nobody looks after, because their staging directory is gone. Nothing is deleted:
 * what users did in one may be nowhere else. */
int audit_note_strays(const Context *context);
/* FAILURE_BUSY with who stands there when an old tree that is merged with lower, or a part of it, is kept:
 * the kernel does not merge a lower directory twice, so no other can be merged with it. The error is
 * FAILURE_ERROR_HELD where nobody stands there: it is being removed, which is worth waiting for. */
int audit_check_old_trees(const Context *context, const char *lower, Failure *reterr);
