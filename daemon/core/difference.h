/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What has changed in the lower layers below a finalized directory since its record was written. */
#pragma once

#include "core/layer.h"
#include "core/lower.h"
#include "core/manifest.h"
#include "core/site.h"

typedef enum DifferenceKind {
        DIFFERENCE_NEW,     /* a lower name the record does not know */
        DIFFERENCE_REMOVED, /* a lower name the record knows, and that is gone for sure */
        DIFFERENCE_CHANGED, /* another file, another size, owner, mode or time */
} DifferenceKind;

typedef struct Difference {
        DifferenceKind kind;
        const char *name;
        const char *lower;  /* its lower path */
        struct stat st;     /* in the lower; not of a removed one */
        const Entry *entry; /* as recorded; not of a new one */
        UpperEntry upper;   /* what stands under the name now; not of a new one */
        bool is_own;        /* that carries something of its own: it was changed through the overlay */
} Difference;

/* A finalized directory being compared; all borrowed. */
typedef struct DifferenceScope {
        const Site *site;
        const Lower *lower;
        const Node *node; /* of its record */
        int upper_fd;
} DifferenceScope;

typedef int (*difference_func)(const Difference *d, void *userdata);
/* Calls func for each difference: 0; 1 when the lower directory itself was removed; negative with *reterr
 * when the lower does not tell, and then nothing follows from what func heard before. Names that are deleted
 * or somebody's own by now make no difference. Directories below are not entered. */
int difference_find(const DifferenceScope *s, difference_func func, void *userdata, Failure *reterr);
/* Whether an entry differs from what the lower showed when it was recorded. Without a record, a file whose
 * data is in the upper does. */
bool entry_is_own(int upper_fd, const char *name, const Entry *recorded, const UpperEntry *e);
