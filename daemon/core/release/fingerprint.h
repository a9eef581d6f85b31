/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What identifies an entry of the upper as it was at one moment: inode, stat() data, xattrs, class. It is
 * taken when an entry was found to be nobody's, or was made here, and compared before the entry is removed.
 * Whether an entry is nobody's is not decided here (lower/difference.h). In doubt a fingerprint does not
 * hold, so what somebody may have changed stays. */
#pragma once

#include <stdint.h>

#include "core/upper/directory-pair.h"
#include "core/upper/layer.h"

typedef struct Fingerprint {
        uint64_t inode;
        uint64_t content; /* of all that stat() says, modification time in nanoseconds included */
        uint64_t xattrs;
        UpperClass class;
} Fingerprint;

/* Of name in a directory of the upper. */
int fingerprint_of(int upper_fd, const char *name, Fingerprint *ret);
/* Whoever has it open for writing has changed it, or will. */
bool file_has_writer(int fd, const char *name);
/* Whether name in d is still the same, and nobody has the file open for writing.
 * Of a directory only what it is itself is compared. */
bool fingerprint_holds(const Fingerprint *f, DirectoryPair d, const char *name);
