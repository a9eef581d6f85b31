/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* mallocat: preloaded into a worker without sanitizers, lets its Nth allocation fail (MALLOC_AT=N), whoever
 * asks for it, and notes in MALLOC_LOG=FILE that it did. Allocations count from main() on: nobody begins
 * without memory. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "../lib/failing-malloc.h"

static atomic_long left; /* until one fails; 0: none will */

static __attribute__((constructor)) void at_start(void) {
        const char *at = getenv("MALLOC_AT");

        atomic_store(&left, at ? atol(at) : 0);
}

static bool fails(void) {
        const char *path;
        int fd;

        if (atomic_load(&left) <= 0 || atomic_fetch_sub(&left, 1) != 1)
                return false;
        path = getenv("MALLOC_LOG");
        fd = path ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) : -1;
        if (fd >= 0)
                (void) close(fd);
        errno = ENOMEM;
        return true;
}
