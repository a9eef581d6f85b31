/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between the files of the audit only: verify.c (the walk), verify-entry.c (one entry), verify-leftovers.c
 * (what is no entry), repair.c (the repairs of entries). Others use verify.h. A directory is there as long
 * as the walk is in it or below it. */
#pragma once

#include "core/upper/layer.h"
#include "core/verify/verify.h"

/* A directory of the upper on the walk. */
typedef struct VerifyDirectory {
        const struct VerifyDirectory *parent;
        const char *path;
        int upper_fd;
        char *lower; /* where its names are looked up below, NULL nowhere; of a finalized one: what it was */
        bool is_pure;    /* answers by itself: its entries need absolute redirects */
        bool has_origin; /* whiteouts in it are hidden, also where it is pure (docs/overlayfs.md 1.5) */
        bool needs_impure;
        bool has_lower_names;
        PathList lower_names; /* what lower lists; read when it is needed */
} VerifyDirectory;

typedef struct VerifyEntry {
        Verify *v;
        VerifyDirectory *dir;
        const char *name;
        const char *path;
        const UpperEntry *e;
        char *origin; /* xattr, NULL none */
        ssize_t origin_size;
} VerifyEntry;
/* 1: it is repaired, 0: it cannot be, negative errno: it failed. */
typedef int (*repair_func)(const VerifyEntry *x, const char *value);

int verify_found(Verify *v, ProblemKind kind, const char *path, const char *detail, bool is_repaired);
int verify_entry(VerifyEntry *x);
int verify_leftovers(Verify *v);
/* name begins as one of ours. */
int verify_old_tree(Verify *v, const char *name, const char *path);

/* repair.c. value: the absolute redirect. */
int repair_redirect(const VerifyEntry *x, const char *value);
int repair_whiteout(const VerifyEntry *x, const char *value);
int repair_impure(const VerifyDirectory *d);
