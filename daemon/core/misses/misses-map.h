/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the program in the kernel (misses.bpf.c) and the process that reads it (misses-kernel.c) have in
 * common: keys and values of maps. No pointer and no function is in it. Types of the kernel's ABI alone, so
 * that both see the same bytes. */
#pragma once

#include <linux/types.h>

/* Counted at a time. */
#define MISSES_OVERLAYS 256
/* Between two drains; those that were used least recently make room for others. */
#define MISSES_DIRECTORIES 8192
/* Of a directory, below the root of its superblock. */
#define MISSES_DEPTH 48
/* Bytes of all its names, and of one of them, each with its NUL. */
#define MISSES_NAMES 460
#define MISSES_NAME_MAX 256

typedef struct MissesKey {
        __u64 inode;
        __u32 device; /* MISSES_DEVICE() */
        __u32 padding;
} MissesKey;

typedef struct MissesDirectory {
        __u64 n_asked;            /* absent names for which the lower layers were asked */
        __u64 n_saved;            /* absent names for which they were not, because the directory has none */
        __u32 length;             /* of names; more than there is room for: they could not be read */
        char names[MISSES_NAMES]; /* its own, that of the directory above, and so on, each with its NUL */
} MissesDirectory;

/* As the kernel spells the number of a superblock. */
#define MISSES_DEVICE(major, minor) ((__u32) (major) << 20 | (__u32) (minor))
