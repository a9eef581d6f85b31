/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The content of regular files: how much a copy of it takes, and the copying. Holes are no content as far
 * as the file system tells where they are (SEEK_DATA: NFS since 4.2, FUSE if its server does). Whether a
 * file may be read as the lower's, lower_open_file() has decided before. A copy that fails leaves a file in
 * staging, which is the caller's to remove. */
#pragma once

#include "core/context/context.h"

/* What the kernel writes at least of each piece when it copies something up (OVL_COPY_UP_CHUNK_SIZE;
 * docs/overlayfs.md 3.6). */
#define CONTENT_KERNEL_STEP (UINT64_C(1) << 20)

/* Bytes that are written if each piece of data is copied in steps of that many bytes. Blocks. */
int content_measure(int fd, uint64_t step, uint64_t *ret);
/* A copy, and what it is for. */
typedef struct ContentCopy {
        Context *context;
        const char *path; /* from the overlay's root, for messages */
        uint64_t n_done;  /* entries of the job before this one */
        bool is_full;     /* afterwards: the room that is to be left would have been taken */
} ContentCopy;

/* Zeros become holes. Asks for room on the way; FAILURE_NO_SPACE. Tells progress; -ECANCELED. -EAGAIN: the
 * file became shorter meanwhile. */
int content_copy(ContentCopy *c, int from_fd, int to_fd, Failure *reterr);
