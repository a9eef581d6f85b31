/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an entry of the upper was like when it was found to be nobody's, to tell shortly before it is
 * removed, or after it was taken away, whether somebody was faster. Whether it is nobody's is found out
 * elsewhere (difference.h). In doubt the answer is that it is somebody's. */
#pragma once

#include <stdint.h>

#include "core/upper/directory-pair.h"
#include "core/upper/layer.h"

typedef struct Judgement {
        uint64_t inode;
        uint64_t content; /* of all that stat() says, modification time in nanoseconds included */
        uint64_t xattrs;
        UpperClass class;
} Judgement;

/* Of name in a directory of the upper. */
int judgement_of(int upper_fd, const char *name, Judgement *ret);
/* Whoever has it open for writing has changed it, or will. */
bool file_has_writer(int fd, const char *name);
/* Whether it still holds of name in d, and nobody has the file open for writing.
 * Of a directory only what it is itself is compared. */
bool judgement_holds(const Judgement *j, DirectoryPair d, const char *name);
