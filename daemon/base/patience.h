/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Looks at things of other processes that wait, in the kernel, for what those processes wait for: the memory
 * map of one that is stuck in a page fault, the type of a file whose server is gone
 * (docs/overlayfs.md 10.3). Each look is a thread's, which is left behind when it takes too long, and ends
 * whenever the kernel lets it. No process is disturbed. Whoever asks waits no longer than his Patience
 * allows. */
#pragma once

#include <sys/types.h>

#include "base/macro.h"

typedef struct Patience {
        uint64_t left_usec;    /* for all looks that hang, together; afterwards each has 50 ms */
        uint64_t look_usec;    /* of one look; 0: 300 ms */
        uint64_t held_up_usec; /* and for those at processes that wait for a processor, besides */
} Patience;

#define PATIENCE_INIT                                                                                       \
        (Patience) {                                                                                        \
                .left_usec = 3 * USEC_PER_SEC, .held_up_usec = 10 * USEC_PER_SEC                            \
        }

/* The content of a file of /proc, owned by the caller. process: whose locks are taken for it, 0 nobody's.
 * -ETIMEDOUT, or what reading says. */
int patience_read(Patience *p, pid_t process, const char *path, char **ret);
/* The S_IFMT bits of what path leads to, and the id of the mount it is on. Each may be NULL. -ETIMEDOUT, or
 * what statx() says. */
int patience_stat(Patience *p, const char *path, mode_t *ret_type, int *ret_mount_id);
/* Runs func in such a thread. -ETIMEDOUT: it hangs, and userdata is freed by userdata_free() when it has
 * ended. Anything else func returns, or -errno of making the thread; userdata stays the caller's. */
typedef int (*patience_func)(void *userdata);
int patience_call(Patience *p, patience_func func, void *userdata, void (*userdata_free)(void *userdata));
