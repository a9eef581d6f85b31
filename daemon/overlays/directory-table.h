/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the daemon knows about the directories of one overlay, from what workers reported. It looks at no
 * directory itself, so it may be behind; whoever has to know asks a worker. Merged directories are not
 * kept: there are too many of them, and nothing to say. One allocation per directory. */
#pragma once

#include "base/states.h"

typedef struct DirectoryInfo {
        const char *path; /* relative to the mount point, "" is the root */
        DirectoryState state;
        const char *reason;     /* "" if none */
        const char *scheme;     /* "" if none */
        const char *lower_path; /* absolute within the lower layers, "/" is their root; "" unknown or none */
        uint64_t entries;
        uint64_t merge_children;
        uint64_t finalized_usec; /* 0 unknown */
} DirectoryInfo;

typedef struct DirectoryTable DirectoryTable;

DirectoryTable *directory_table_new(void);
DirectoryTable *directory_table_free(DirectoryTable *t);
DEFINE_CLEANUP(DirectoryTable *, directory_table_free);
void directory_table_clear(DirectoryTable *t);

/* Stores a copy. 1: the state of the directory is another one than before (one that was not there was
 * merged), 0: it is the same, -ENOMEM. */
int directory_table_update(DirectoryTable *t, const DirectoryInfo *info);
/* 1 and *ret (borrowed until the next update) when path is there, 0 when not. */
int directory_table_get(const DirectoryTable *t, const char *path, DirectoryInfo *ret);
/* Whether what the state of a directory calls for may be tried by itself now, and if so, takes it for tried:
 * at once, then, as long as state and reason stay the same, after pauses that grow from an hour to a day.
 * now_usec: of any clock that does not go back. */
bool directory_table_try(DirectoryTable *t, const char *path, uint64_t now_usec);
size_t directory_table_count(const DirectoryTable *t, DirectoryState state) _pure_;

/* A survey reports everything that is not merged: what has not been updated between begin and end is gone.
 * func is called for each directory that is dropped. Directories left as excluded are kept, because a survey
 * does not look for them. */
void directory_table_survey_begin(DirectoryTable *t);
void directory_table_survey_end(
        DirectoryTable *t, void (*func)(const DirectoryInfo *info, void *userdata), void *userdata);

/* Calls func for all at or below prefix ("" for all), sorted by path. A negative return ends it and is
 * passed on. */
int directory_table_foreach(
        const DirectoryTable *t,
        const char *prefix,
        int (*func)(const DirectoryInfo *info, void *userdata),
        void *userdata);
