/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the parts of refresh share: refresh.c (a directory's differences, the record), refresh-take.c (new
 * names), refresh-replace.c (changed files). */
#pragma once

#include "core/refresh.h"
#include "core/staging.h"

/* A difference to be acted upon, and what the record is to say afterwards. */
typedef struct RefreshChange {
        DifferenceKind kind;
        char *name;
        char *lower;
        struct stat st;
        uint64_t inode;        /* of a changed entry in the upper */
        uint64_t base, xattrs; /* what was recorded of it; then, what is to be recorded */
        UpperClass class;
        uint64_t judged;       /* digest of the entry in the upper when that was */
        bool keeps_attributes; /* which somebody has changed here */
        bool is_done;
        bool is_local; /* a user's own stands there */
} RefreshChange;

typedef struct RefreshDirectory {
        Prune *p;
        const Node *node;
        const char *path;
        int fd, upper_fd; /* through the overlay, and in the upper */
        RefreshChange *items;
        size_t n;
        Staging staging;
        int view_fd; /* the lower directory as a merged one of our own in staging, -EBADF: not made yet */
        Failure *reterr;
} RefreshDirectory;

/* Makes the staging directory, and in it the view of the lower directory in which all names but the new ones
 * are covered. */
int refresh_open_view(RefreshDirectory *d);
int refresh_open_staging(RefreshDirectory *d);
int refresh_take(RefreshDirectory *d, RefreshChange *c);
int refresh_replace(RefreshDirectory *d, RefreshChange *c);
/* Adds what stands below a directory taken in to the record. */
int refresh_record_tree(Node *n, int upper_fd, const char *lower);
void refresh_note(const RefreshDirectory *d, const char *name, const char *why);
