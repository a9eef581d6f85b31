/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the parts share: misses.c (the loop, and whom a count belongs to), misses-kernel.c (the program and
 * its maps), misses-refusal.c (why a kernel does not take it), misses-path.c (from names to a path). Others
 * use misses.h. */
#pragma once

#include <limits.h>
#include <sys/types.h>

#include "core/misses/misses-map.h"
#include "core/misses/misses.h"

typedef struct MissesKernel MissesKernel;

/* misses-path.c */
/* The path of the directory relative to a mount whose root (as in the mount table, "/" or "/a/b") lies in
 * the same superblock. 1: *ret is set; 0: it is not below that root; -ENAMETOOLONG: nobody knows. */
int misses_path(const MissesDirectory *d, const char *root, char ret[MISSES_NAMES]);
/* Those with most lookups at the lower first. For qsort() of pointers. */
int misses_compare(const void *a, const void *b);

/* misses-refusal.c. Both return -ENOTSUP, with words for a person. */
/* Whether the function is there, and takes and returns what we know. */
int misses_check_function(Failure *reterr);
/* error: of what libbpf could not do; step: "load" or "attach". */
int misses_refuse_load(int error, Failure *reterr);
int misses_refuse_attach(int error, Failure *reterr);

/* misses-kernel.c */
/* Puts the program into the kernel. alive is called now and then meanwhile. -ENOTSUP with the reason. */
int misses_kernel_new(void (*alive)(void *userdata), void *userdata, MissesKernel **ret, Failure *reterr);
MissesKernel *misses_kernel_free(MissesKernel *k);
DEFINE_CLEANUP(MissesKernel *, misses_kernel_free);
/* From now on the superblock counts, or does no more. */
int misses_kernel_set(MissesKernel *k, dev_t device, bool counts);
/* Becomes readable when something is counted that was not drained. */
int misses_kernel_fd(const MissesKernel *k);
/* Takes out all that was counted: two arrays of *ret_n, valid until the next call. */
typedef struct MissesDrained {
        MissesKey *keys;
        MissesDirectory *directories;
        size_t n;
} MissesDrained;
int misses_kernel_drain(MissesKernel *k, MissesDrained *ret);
void misses_drained_done(MissesDrained *d);
