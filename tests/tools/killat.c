/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* killat: preloaded into a worker, kills it (or its parent) with SIGKILL right after its Nth call that
 * changes a file system, or before the first. With N from 0 until the worker survives, every gap between two
 * steps has been tried. KILLAT=N, KILLAT_PARENT=1: the parent instead; KILLAT_LOG=FILE: where to say which
 * call it was. KILLAT_CALL=NAME: only these calls count ("exchange": a renameat2 that exchanges).
 *
 * Calls that change mounts count as well ("beneath": a move_mount beneath another); getxattr,
 * inotify_add_watch, fanotify_mark and flock only where KILLAT_CALL names them.
 *
 * Instead of the killing, before the call is made: KILLAT_ERROR=ERRNO: the Nth call fails (KILLAT_ALWAYS=1:
 * all of them); KILLAT_HOLD=FILE: the Nth call and all that follow wait, as long as FILE and the log exist.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/macro.h"

static atomic_long n_calls;

static void log_call(const char *name, long n) {
        const char *path = getenv("KILLAT_LOG");
        _cleanup_fclose_ FILE *f = path ? fopen(path, "we") : NULL;

        if (f)
                fprintf(f, "%ld %s\n", n, name);
}

static void *next(const char *name) {
        void *f = dlsym(RTLD_NEXT, name);

        if (!f)
                abort();
        return f;
}

/* The worker has asked to die with its parent; before it could, nobody else ends it. */
static void strike_parent(void) {
        pid_t parent = getppid();

        (void) kill(parent, SIGKILL);
        while (getppid() == parent)
                (void) usleep(1000);
        (void) usleep(100 * 1000);
}

static void strike(const char *name, long n) {
        log_call(name, n);
        if (getenv("KILLAT_PARENT"))
                strike_parent();
        (void) kill(getpid(), SIGKILL);
        for (;;)
                pause();
}

static bool changes_something(const char *name) {
        static const char *const readers[] = { "getxattr", "inotify_add_watch", "fanotify_mark", "flock" };

        for (size_t i = 0; i < ELEMENTSOF(readers); i++)
                if (strcmp(name, readers[i]) == 0)
                        return false;
        return true;
}

static bool counts(const char *name) {
        const char *only = getenv("KILLAT_CALL");

        return getenv("KILLAT") && (only ? strcmp(only, name) == 0 : changes_something(name));
}

static bool is_gentle(void) {
        return getenv("KILLAT_ERROR") || getenv("KILLAT_HOLD");
}

static void hold(const char *name, long n) {
        const char *log = getenv("KILLAT_LOG"), *file = getenv("KILLAT_HOLD");

        if (access(file, F_OK) < 0)
                return;
        log_call(name, n);
        while (access(file, F_OK) >= 0 && access(log, F_OK) >= 0)
                (void) usleep(1000);
}

/* -1: the call is to fail. */
static int calling(const char *name) {
        long at, n;

        if (!is_gentle() || !counts(name))
                return 0;
        at = atol(getenv("KILLAT"));
        n = atomic_fetch_add(&n_calls, 1) + 1;
        if (getenv("KILLAT_HOLD") && n >= at)
                hold(name, n);
        if (!getenv("KILLAT_ERROR") || (n != at && !getenv("KILLAT_ALWAYS")))
                return 0;
        log_call(name, n);
        errno = atoi(getenv("KILLAT_ERROR"));
        return -1;
}

/* Only a call that changed something counts: a failed one leaves the gap as it was. */
static void called(const char *name, int r) {
        int saved = errno;

        if (r >= 0 && !is_gentle() && counts(name) &&
            atomic_fetch_add(&n_calls, 1) + 1 == atol(getenv("KILLAT")))
                strike(name, atol(getenv("KILLAT")));
        errno = saved;
}

static __attribute__((constructor)) void at_start(void) {
        const char *at = getenv("KILLAT");

        if (at && atol(at) == 0 && !is_gentle())
                strike("start", 0);
}

#define WRAP_AS(name, parameters, arguments, kind)                                                          \
        int name parameters {                                                                               \
                int(*f) parameters = (int(*) parameters) next(#name);                                       \
                int r = calling(kind) < 0 ? -1 : f arguments;                                               \
                                                                                                            \
                called(kind, r);                                                                            \
                return r;                                                                                   \
        }
#define WRAP(name, parameters, arguments) WRAP_AS(name, parameters, arguments, #name)

WRAP(linkat, (int ofd, const char *o, int nfd, const char *n, int flags), (ofd, o, nfd, n, flags))
WRAP(symlinkat, (const char *target, int fd, const char *p), (target, fd, p))
WRAP(mkdir, (const char *p, mode_t mode), (p, mode))
WRAP(mkdirat, (int fd, const char *p, mode_t mode), (fd, p, mode))
WRAP(mknodat, (int fd, const char *p, mode_t mode, dev_t dev), (fd, p, mode, dev))
WRAP(rename, (const char *o, const char *n), (o, n))
WRAP(renameat, (int ofd, const char *o, int nfd, const char *n), (ofd, o, nfd, n))
WRAP_AS(renameat2,
        (int ofd, const char *o, int nfd, const char *n, unsigned flags),
        (ofd, o, nfd, n, flags),
        (flags & RENAME_EXCHANGE) ? "exchange" : "renameat2")
WRAP(unlink, (const char *p), (p))
WRAP(rmdir, (const char *p), (p))
WRAP(unlinkat, (int fd, const char *p, int flags), (fd, p, flags))
WRAP(fsync, (int fd), (fd))
WRAP(fdatasync, (int fd), (fd))
WRAP(syncfs, (int fd), (fd))
WRAP(fchown, (int fd, uid_t u, gid_t g), (fd, u, g))
WRAP(fchownat, (int fd, const char *p, uid_t u, gid_t g, int flags), (fd, p, u, g, flags))
WRAP(fchmod, (int fd, mode_t mode), (fd, mode))
WRAP(fchmodat, (int fd, const char *p, mode_t mode, int flags), (fd, p, mode, flags))
WRAP(futimens, (int fd, const struct timespec times[2]), (fd, times))
WRAP(utimensat, (int fd, const char *p, const struct timespec times[2], int flags), (fd, p, times, flags))
WRAP(setxattr, (const char *p, const char *k, const void *v, size_t l, int flags), (p, k, v, l, flags))
WRAP(lsetxattr, (const char *p, const char *k, const void *v, size_t l, int flags), (p, k, v, l, flags))
WRAP(fsetxattr, (int fd, const char *k, const void *v, size_t l, int flags), (fd, k, v, l, flags))

#define MOVE_MOUNT_BENEATH 0x200
WRAP(mount,
     (const char *s, const char *t, const char *type, unsigned long flags, const void *data),
     (s, t, type, flags, data))
WRAP(umount2, (const char *p, int flags), (p, flags))
WRAP_AS(move_mount,
        (int ofd, const char *o, int nfd, const char *n, unsigned flags),
        (ofd, o, nfd, n, flags),
        (flags & MOVE_MOUNT_BENEATH) ? "beneath" : "move_mount")
WRAP(open_tree, (int fd, const char *p, unsigned flags), (fd, p, flags))
WRAP(fsopen, (const char *name, unsigned flags), (name, flags))
WRAP(fsmount, (int fd, unsigned flags, unsigned attributes), (fd, flags, attributes))
WRAP(fspick, (int fd, const char *p, unsigned flags), (fd, p, flags))
WRAP(fsconfig,
     (int fd, unsigned command, const char *key, const void *value, int aux),
     (fd, command, key, value, aux))
WRAP(mount_setattr,
     (int fd, const char *p, unsigned flags, struct mount_attr *a, size_t size),
     (fd, p, flags, a, size))
WRAP(unshare, (int flags), (flags))
WRAP(fremovexattr, (int fd, const char *k), (fd, k))
WRAP(flock, (int fd, int operation), (fd, operation))
WRAP(inotify_add_watch, (int fd, const char *p, uint32_t mask), (fd, p, mask))
WRAP(fanotify_mark,
     (int fd, unsigned flags, uint64_t mask, int dfd, const char *p),
     (fd, flags, mask, dfd, p))

ssize_t getxattr(const char *p, const char *k, void *v, size_t l) {
        ssize_t (*f)(const char *, const char *, void *, size_t) =
                (ssize_t(*)(const char *, const char *, void *, size_t)) next("getxattr");

        return calling("getxattr") < 0 ? -1 : f(p, k, v, l);
}

int openat(int fd, const char *p, int flags, ...) {
        int (*f)(int, const char *, int, ...) = (int (*)(int, const char *, int, ...)) next("openat");
        mode_t mode = 0;
        va_list ap;
        int r;

        if (flags & (O_CREAT | O_TMPFILE)) {
                va_start(ap, flags);
                mode = va_arg(ap, mode_t);
                va_end(ap);
        }
        r = f(fd, p, flags, mode);
        if (flags & O_CREAT)
                called("openat", r);
        return r;
}
