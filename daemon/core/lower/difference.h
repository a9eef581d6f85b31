/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What has changed in the lower layers below a finalized directory since its record was written, and which
 * entries carry something of a user's. It changes nothing and does not say what is to be done. A name that
 * is missing counts as removed only where lower_is_removed() says so; where the lower does not tell,
 * nothing follows. */
#pragma once

#include "core/context/context.h"
#include "core/lower/lower.h"
#include "core/record/tree.h"
#include "core/upper/layer.h"

typedef enum DifferenceKind {
        DIFFERENCE_NEW, /* a lower name the record does not know, or a directory where it knows a file, and
                           where there is one here as well */
        DIFFERENCE_REMOVED,    /* a lower name the record knows, and that is gone for sure */
        DIFFERENCE_CHANGED,    /* another file or kind of entry, another size, owner, mode, time or xattr */
        DIFFERENCE_ATTRIBUTES, /* owner, mode or xattrs of the directory itself; its name is "" */
        _DIFFERENCE_KIND_MAX,
} DifferenceKind;

typedef struct Difference {
        DifferenceKind kind;
        const char *name;
        const char *lower;        /* its lower path */
        struct stat st;           /* in the lower; not of a removed one */
        const Entry *entry;       /* as recorded; NULL for an unknown name, and for the directory itself */
        UpperEntry upper;         /* what stands under the name now; of neither of these */
        bool is_locally_modified; /* that carries something of its own: it was changed through the overlay.
                        Of a directory whose place something else has taken, nothing is said. */
} Difference;

/* A finalized directory being compared; all borrowed. */
typedef struct DifferenceScope {
        const Context *context;
        const Lower *lower;
        const Node *node; /* of its record */
        int upper_fd;
} DifferenceScope;

typedef int (*difference_func)(const Difference *d, void *userdata);
/* Calls func for each difference: DIFFERENCES_FOUND; one of the others, where func is not called; negative
 * with *reterr when the lower does not tell, and then nothing follows from what func heard before. Names
 * that are deleted or somebody's own by now make no difference. Directories below are not entered. */
enum {
        DIFFERENCES_FOUND,
        DIFFERENCES_GONE,     /* the lower directory was removed */
        DIFFERENCES_REPLACED, /* lower_is_replaced() */
};
int difference_find(const DifferenceScope *s, difference_func func, void *userdata, Failure *reterr);
/* Whether an entry differs from what the lower showed when it was recorded. Without a record, a file whose
 * data is in the upper does. */
bool entry_is_locally_modified(int upper_fd, const char *name, const Entry *recorded, const UpperEntry *e);

/* Whether the lower file is the one that the entry was copied from: 1, 0, or -ENODATA as it cannot be told.
 */
int difference_is_same_file(const DifferenceScope *s, const Difference *d);
/* Of a changed file: whether its content is what it was, by size and modification time to the nanosecond. It
 * is that file still, or one that was restored from a copy, which the kernel finds by its path already. */
bool difference_has_same_content(const DifferenceScope *s, const Difference *d);

/* Whether a name of n, which is merged, is surely none of the lower's; ue: what the upper holds under it.
 * That tells of a copy that never had another name; of all else, which may stand in the place of a lower
 * entry, the lower is asked. What it does not tell counts as its name: a whiteout too many hides what the
 * lower gets some day, one too few brings back what was deleted. */
bool difference_is_local(const Node *n, const char *name, const UpperEntry *ue, const Lower *l);
/* The same of a name that the upper holds nothing under: the lower is asked, and was proved to be it. Blocks
 * on the lower. */
bool difference_is_unknown_below(const Node *n, const char *name, const Lower *l);

/* What the lower shows of an entry, or a directory, now: for the record. What it does not tell stays
 * unknown. Of an entry it may be known already: st, and the digest of its xattrs. */
void difference_note_known(Entry *e, const Lower *l, const struct stat *st, uint64_t xattrs);
void difference_note(Entry *e, const Lower *l, const char *lower);
void difference_note_directory(Node *n, const Lower *l);
