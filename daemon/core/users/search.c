/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is found of one process after the other, by the files blockers-*.c. It looks for nothing itself. The
 * same thing is listed once, and no more than a few of a kind for each process, but every mount and every
 * layer. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/path-util.h"
#include "base/str.h"
#include "core/users/blockers-internal.h"

#define MINOR_BITS 20 /* of the kernel's own numbers: MINORBITS */

unsigned kernel_device(dev_t d) {
        return major(d) << MINOR_BITS | minor(d);
}

void search_forget_inodes(Search *s) {
        for (size_t i = 0; i < s->n_inodes; i++)
                free(s->inodes[i].path);
        free(s->inodes);
        s->inodes = NULL;
        s->n_inodes = 0;
}

static void read_of_process(const Search *s, const char *name, char buffer[static PATH_MAX]) {
        char path[PATH_MAX];

        (void) snprintf(path, sizeof(path), "%s/%d/%s", s->proc, (int) s->process, name);
        (void) proc_read_link(AT_FDCWD, path, buffer);
}

static void read_command(Search *s) {
        _cleanup_close_ int fd = -EBADF;
        char path[PATH_MAX];

        (void) snprintf(path, sizeof(path), "%s/%d", s->proc, (int) s->process);
        fd = s->process != 0 ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -EBADF;
        s->command[0] = '\0';
        if (fd >= 0)
                proc_read_command(fd, s->command);
}

void search_begin(Search *s, pid_t process) {
        search_forget_inodes(s);
        s->process = process;
        s->first = s->n;
        s->namespace[0] = s->root[0] = '\0';
        read_command(s);
        if (process == 0)
                return;
        read_of_process(s, "ns/mnt", s->namespace);
        read_of_process(s, "root", s->root);
}

/* Whether there is no room, or no need, for one more. */
static bool is_superfluous(const Search *s, BlockerKind kind, const char *path, ino_t inode) {
        unsigned n = 0;

        for (size_t i = s->first; i < s->n; i++) {
                const Pending *p = s->items + i;

                if (p->blocker.kind != kind)
                        continue;
                if (p->inode == inode && str_equal(p->blocker.path, path))
                        return true;
                n++;
        }
        return n >= BLOCKERS_PER_KIND;
}

int search_add(Search *s, BlockerKind kind, bool is_blocking, char *path, ino_t inode) {
        _cleanup_free_ char *p = path;

        if (s->below && !(path && path_startswith(path, s->below)))
                return 0;
        if (kind != BLOCKER_MOUNT && kind != BLOCKER_LAYER && is_superfluous(s, kind, path, inode))
                return 0;
        if (!ARRAY_GROW(s->items, s->n))
                return -ENOMEM;
        s->items[s->n] = (Pending){
                .blocker = { .kind = kind,
                             .is_blocking = is_blocking,
                             .pid = s->process,
                             .path = TAKE_PTR(p) },
                .inode = inode,
        };
        memcpy(s->items[s->n].blocker.command, s->command, sizeof(s->command));
        s->n++;
        return 1;
}
