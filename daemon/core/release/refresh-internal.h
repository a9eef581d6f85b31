/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the parts of refresh share: refresh.c (a directory's differences), refresh-take.c (new names),
 * refresh-replace.c (changed entries), refresh-attributes.c (their owner, mode and xattrs), refresh-aside.c
 * (what stood there), refresh-record.c (what the record is to say). */
#pragma once

#include "core/context/staging.h"
#include "core/lower/difference.h"
#include "core/release/fingerprint.h"
#include "core/release/refresh-cost.h"
#include "core/release/refresh.h"

#define REFRESH_DOING "it takes up what changed in the lower layers; see whether they answer"
#define REFRESH_COPY "copy" /* in staging: what is to come, ours to delete */

/* A difference to be acted upon, and what the record is to say afterwards. */
typedef struct RefreshChange {
        DifferenceKind kind;
        char *name;
        char *lower;
        struct stat st;
        uint64_t bytes;        /* of data to be copied; known of a dry run, and where nobody has asked */
        uint64_t xattrs;       /* to be recorded; st says the rest */
        uint64_t attributes;   /* the same, of the directory itself */
        Fingerprint judged;    /* the entry in the upper, if there is one */
        unsigned char type;    /* DT_ value of that */
        bool keeps_attributes; /* which somebody has changed here */
        bool has_same_content; /* as what is here: no data is copied */
        bool is_same_file;     /* so much so that the kernel goes on with it */
        bool is_same;          /* and all else, too: only the record is to learn of it */
        bool is_begun;         /* owner, mode and xattrs may be half set */
        bool is_noted;         /* in the record, as one that is being changed */
        uint64_t base, ctime;  /* what that said of it before */
        bool is_done;
        bool is_local; /* a user's own stands there */
} RefreshChange;

typedef struct RefreshDirectory {
        Prune *p;
        const Node *node;
        const char *path;
        DirectoryPair pair; /* the one in the upper is borrowed */
        RefreshChange *items;
        size_t n;
        RefreshCost cost;
        Staging staging;
        int view_fd; /* the lower directory as a merged one of our own in staging, -EBADF: not made yet */
        bool has_removed;
        bool is_full;     /* no room was left, of what is to stay free */
        bool is_unsynced; /* the upper could not be synced */
        bool is_occupied; /* processes stand in an old tree that is merged: what is new waits until they
                             leave */
        Failure *reterr;
} RefreshDirectory;

int refresh_open_staging(RefreshDirectory *d);
/* Ends the refresh on failure. */
int refresh_make_durable(RefreshDirectory *d);
int refresh_take(RefreshDirectory *d, RefreshChange *c);
int refresh_replace(RefreshDirectory *d, RefreshChange *c);
/* Removes what is left of REFRESH_COPY; staging must be open. */
int refresh_drop_copy(const RefreshDirectory *d);
/* Builds the lower directory of c as REFRESH_COPY in staging; the caller drops what was built on failure. */
int refresh_build_directory(RefreshDirectory *d, const RefreshChange *c);
/* refresh-attributes.c: owner, mode and xattrs, of the directory itself and of a file. */
int refresh_attributes(RefreshDirectory *d, RefreshChange *c);
int refresh_file_attributes(RefreshDirectory *d, RefreshChange *c);
/* c has the content of before. Where another file has taken its place, has the kernel forget the one it was
 * copied from, which may have another name now. */
int refresh_note_file(RefreshDirectory *d, const RefreshChange *c);
bool refresh_has_attributes(const RefreshChange *c) _pure_;
/* Before attributes of files are set, and names removed: what a kill leaves is nobody's. */
int refresh_record_intents(RefreshDirectory *d);
/* Whether anything at or below a directory of the upper is somebody's own: 1, 0. */
int refresh_holds_local(const Records *records, int upper_fd);
/* record_edit_func; d is a RefreshDirectory. */
int refresh_record(Node *n, void *d);
void refresh_note(const RefreshDirectory *d, const char *name, const char *why);
