/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* killat: preloaded into a worker, kills it (or its parent) with SIGKILL right after its Nth call that
 * changes a file system, or before the first. With N from 0 until the worker survives, every gap between two
 * steps has been tried. KILLAT=N, KILLAT_PARENT=1: the parent instead; KILLAT_LOG=FILE: where to say which
 * call it was. KILLAT_CALL=NAME[,NAME]: only these calls count ("exchange": a renameat2 that exchanges).
 *
 * Calls that change mounts count as well ("beneath": a move_mount beneath another); getxattr,
 * inotify_add_watch, fanotify_mark, flock, openat2, readdir, those that set inode flags ("setflags") and
 * those that read or write data only where KILLAT_CALL names them. KILLAT_PATH=TEXT: of calls on an entry,
 * only those on a path that begins so.
 *
 * Instead of the killing, before the call is made: KILLAT_ERROR=ERRNO: the Nth call fails (KILLAT_ALWAYS=1:
 * all of them); KILLAT_ERROR=name: those on an entry that is called errno-N fail with N; KILLAT_HOLD=FILE:
 * the Nth call and all that follow wait, as long as FILE and the log exist.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
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
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/macro.h"

static atomic_long n_calls;

/* The directory of the log, opened at the start: a thread may have entered another mount namespace by then.
 */
static int log_dfd = AT_FDCWD;

static __attribute__((constructor(101))) void open_log_directory(void) {
        const char *path = getenv("KILLAT_LOG"), *slash = path ? strrchr(path, '/') : NULL;
        char directory[PATH_MAX];

        if (!slash || (size_t) (slash - path) >= sizeof(directory))
                return;
        (void) snprintf(directory, sizeof(directory), "%.*s", (int) (slash - path), path);
        log_dfd = (int) syscall(SYS_openat, AT_FDCWD, directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static void log_call(const char *name, long n) {
        const char *path = getenv("KILLAT_LOG"), *slash = path ? strrchr(path, '/') : NULL;
        /* Not by openat(), which counts here. */
        int fd = path ? (int) syscall(
                                SYS_openat, log_dfd, slash ? slash + 1 : path,
                                O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)
                      : -1;
        _cleanup_fclose_ FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;

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
        static const char *const readers[] = {
                "getxattr", "inotify_add_watch", "fanotify_init",   "fanotify_mark",
                "flock",    "openat2",           "readdir",         "pread",
                "write",    "name_to_handle_at", "copy_file_range", "clone",
                "setflags"
        };

        for (size_t i = 0; i < ELEMENTSOF(readers); i++)
                if (strcmp(name, readers[i]) == 0)
                        return false;
        return true;
}

static const char *last_component(const char *p) {
        const char *slash = strrchr(p, '/');

        return slash ? slash + 1 : p;
}

/* N of the entry p of fd, or of fd itself, that is called errno-N; 0 of others. */
static int errno_in_name(int fd, const char *p) {
        char link[64], target[PATH_MAX];
        int error = 0, k = 0;
        ssize_t n;

        if (!p || !p[0] || (sscanf(p, "/proc/self/fd/%d%n", &fd, &k) == 1 && p[k] == '\0')) {
                (void) snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
                n = readlink(link, target, sizeof(target) - 1);
                target[n < 0 ? 0 : n] = '\0';
                p = target;
        }
        return sscanf(last_component(p), "errno-%d", &error) == 1 ? error : 0;
}

static bool is_error_named(void) {
        const char *error = getenv("KILLAT_ERROR");

        return error && strcmp(error, "name") == 0;
}

static bool is_listed(const char *list, const char *name) {
        size_t n = strlen(name);

        for (const char *p = strstr(list, name); p; p = strstr(p + n, name))
                if ((p == list || p[-1] == ',') && (p[n] == '\0' || p[n] == ','))
                        return true;
        return false;
}

static bool begins_as_asked(const char *p) {
        const char *text = getenv("KILLAT_PATH");

        return !text || (p && strncmp(p, text, strlen(text)) == 0);
}

static bool counts(const char *name, int fd, const char *p) {
        const char *only = getenv("KILLAT_CALL");

        return getenv("KILLAT") && (only ? is_listed(only, name) : changes_something(name)) &&
                begins_as_asked(p) && (!is_error_named() || errno_in_name(fd, p) != 0);
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
static int calling(const char *name, int fd, const char *p) {
        long at, n;

        if (!is_gentle() || !counts(name, fd, p))
                return 0;
        at = atol(getenv("KILLAT"));
        n = atomic_fetch_add(&n_calls, 1) + 1;
        if (getenv("KILLAT_HOLD") && n >= at)
                hold(name, n);
        if (!getenv("KILLAT_ERROR") || (n != at && !getenv("KILLAT_ALWAYS")))
                return 0;
        log_call(name, n);
        errno = is_error_named() ? errno_in_name(fd, p) : atoi(getenv("KILLAT_ERROR"));
        return -1;
}

/* Only a call that changed something counts: a failed one leaves the gap as it was. */
static void called(const char *name, int r, int fd, const char *p) {
        int saved = errno;

        if (r >= 0 && !is_gentle() && counts(name, fd, p) &&
            atomic_fetch_add(&n_calls, 1) + 1 == atol(getenv("KILLAT")))
                strike(name, atol(getenv("KILLAT")));
        errno = saved;
}

static __attribute__((constructor)) void at_start(void) {
        const char *at = getenv("KILLAT");

        if (at && atol(at) == 0 && !is_gentle())
                strike("start", 0);
}

#define WRAP_AS(type, name, parameters, arguments, kind, fd, path)                                          \
        type name parameters {                                                                              \
                type(*f) parameters = (type(*) parameters) next(#name);                                     \
                type r = calling(kind, fd, path) < 0 ? -1 : f arguments;                                    \
                                                                                                            \
                called(kind, (int) r, fd, path);                                                            \
                return r;                                                                                   \
        }
/* Of calls on an entry: fd and path say which one. */
#define WRAP_AT(name, parameters, arguments, fd, path)                                                      \
        WRAP_AS(int, name, parameters, arguments, #name, fd, path)
#define WRAP(name, parameters, arguments) WRAP_AT(name, parameters, arguments, -1, NULL)

WRAP_AT(linkat, (int ofd, const char *o, int nfd, const char *n, int flags), (ofd, o, nfd, n, flags), ofd, o)
WRAP_AT(symlinkat, (const char *target, int fd, const char *p), (target, fd, p), fd, p)
WRAP_AT(mkdir, (const char *p, mode_t mode), (p, mode), -1, p)
WRAP_AT(mkdirat, (int fd, const char *p, mode_t mode), (fd, p, mode), fd, p)
WRAP_AT(mknodat, (int fd, const char *p, mode_t mode, dev_t dev), (fd, p, mode, dev), fd, p)
WRAP_AT(rename, (const char *o, const char *n), (o, n), -1, o)
WRAP_AT(renameat, (int ofd, const char *o, int nfd, const char *n), (ofd, o, nfd, n), ofd, o)
WRAP_AS(int,
        renameat2,
        (int ofd, const char *o, int nfd, const char *n, unsigned flags),
        (ofd, o, nfd, n, flags),
        (flags & RENAME_EXCHANGE) ? "exchange" : "renameat2",
        ofd,
        o)
WRAP_AT(unlink, (const char *p), (p), -1, p)
WRAP_AT(rmdir, (const char *p), (p), -1, p)
WRAP_AT(unlinkat, (int fd, const char *p, int flags), (fd, p, flags), fd, p)
WRAP_AT(fsync, (int fd), (fd), fd, NULL)
WRAP_AT(fdatasync, (int fd), (fd), fd, NULL)
WRAP_AT(syncfs, (int fd), (fd), fd, NULL)
WRAP_AT(fchown, (int fd, uid_t u, gid_t g), (fd, u, g), fd, NULL)
WRAP_AT(fchownat, (int fd, const char *p, uid_t u, gid_t g, int flags), (fd, p, u, g, flags), fd, p)
WRAP_AT(fchmod, (int fd, mode_t mode), (fd, mode), fd, NULL)
WRAP_AT(fchmodat, (int fd, const char *p, mode_t mode, int flags), (fd, p, mode, flags), fd, p)
WRAP_AT(futimens, (int fd, const struct timespec times[2]), (fd, times), fd, NULL)
WRAP_AT(utimensat,
        (int fd, const char *p, const struct timespec times[2], int flags),
        (fd, p, times, flags),
        fd,
        p)
WRAP_AT(setxattr,
        (const char *p, const char *k, const void *v, size_t l, int flags),
        (p, k, v, l, flags),
        -1,
        p)
WRAP_AT(lsetxattr,
        (const char *p, const char *k, const void *v, size_t l, int flags),
        (p, k, v, l, flags),
        -1,
        p)
WRAP_AT(fsetxattr,
        (int fd, const char *k, const void *v, size_t l, int flags),
        (fd, k, v, l, flags),
        fd,
        NULL)

#define MOVE_MOUNT_BENEATH 0x200
WRAP_AS(int,
        mount,
        (const char *s, const char *t, const char *type, unsigned long flags, const void *data),
        (s, t, type, flags, data),
        (flags & (MS_REC | MS_PRIVATE)) == (MS_REC | MS_PRIVATE) ? "clone" : "mount",
        -1,
        NULL)
WRAP(umount2, (const char *p, int flags), (p, flags))
WRAP_AS(int,
        move_mount,
        (int ofd, const char *o, int nfd, const char *n, unsigned flags),
        (ofd, o, nfd, n, flags),
        (flags & MOVE_MOUNT_BENEATH) ? "beneath" : "move_mount",
        -1,
        NULL)
/* Clones of one mount, or of all for one thread, are how an overlay is opened (daemon/core/mount-clone.c).
 */
WRAP_AS(int,
        open_tree,
        (int fd, const char *p, unsigned flags),
        (fd, p, flags),
        (flags & AT_RECURSIVE) ? "open_tree" : "clone",
        -1,
        NULL)
WRAP(fsopen, (const char *name, unsigned flags), (name, flags))
WRAP(fsmount, (int fd, unsigned flags, unsigned attributes), (fd, flags, attributes))
WRAP(fspick, (int fd, const char *p, unsigned flags), (fd, p, flags))
WRAP(fsconfig,
     (int fd, unsigned command, const char *key, const void *value, int aux),
     (fd, command, key, value, aux))
WRAP_AS(int,
        mount_setattr,
        (int fd, const char *p, unsigned flags, struct mount_attr *a, size_t size),
        (fd, p, flags, a, size),
        a->propagation == MS_PRIVATE ? "clone" : "mount_setattr",
        -1,
        NULL)
WRAP_AS(int, unshare, (int flags), (flags), "clone", -1, NULL)
WRAP_AT(fremovexattr, (int fd, const char *k), (fd, k), fd, NULL)
WRAP(flock, (int fd, int operation), (fd, operation))
WRAP_AT(inotify_add_watch, (int fd, const char *p, uint32_t mask), (fd, p, mask), fd, p)
WRAP(fanotify_init, (unsigned flags, unsigned event_f_flags), (flags, event_f_flags))
WRAP(fanotify_mark,
     (int fd, unsigned flags, uint64_t mask, int dfd, const char *p),
     (fd, flags, mask, dfd, p))

WRAP_AT(name_to_handle_at,
        (int fd, const char *p, struct file_handle *h, int *mount_id, int flags),
        (fd, p, h, mount_id, flags),
        fd,
        p)
WRAP_AS(ssize_t,
        getxattr,
        (const char *p, const char *k, void *v, size_t l),
        (p, k, v, l),
        "getxattr",
        -1,
        p)
WRAP_AS(ssize_t, pread, (int fd, void *b, size_t n, off_t at), (fd, b, n, at), "pread", fd, NULL)
WRAP_AS(ssize_t, write, (int fd, const void *b, size_t n), (fd, b, n), "write", fd, NULL)
WRAP_AS(ssize_t,
        copy_file_range,
        (int from, off_t *from_at, int to, off_t *to_at, size_t n, unsigned flags),
        (from, from_at, to, to_at, n, flags),
        "copy_file_range",
        from,
        NULL)

/* A listing that fails at its beginning. */
struct dirent *readdir(DIR *d) {
        struct dirent *(*f)(DIR *) = (struct dirent * (*) (DIR *) ) next("readdir");

        return calling("readdir", dirfd(d), NULL) < 0 ? NULL : f(d);
}

/* openat2(2) has no function of its own. */
long syscall(long number, ...) {
        long (*f)(long, ...) = (long (*)(long, ...)) next("syscall");
        long a[6];
        va_list ap;

        va_start(ap, number);
        for (size_t i = 0; i < ELEMENTSOF(a); i++)
                a[i] = va_arg(ap, long);
        va_end(ap);
        if (number == SYS_openat2 && calling("openat2", (int) a[0], (const char *) a[1]) < 0)
                return -1;
        return f(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int ioctl(int fd, unsigned long request, ...) {
        int (*f)(int, unsigned long, ...) = (int (*)(int, unsigned long, ...)) next("ioctl");
        bool sets_flags = request == FS_IOC_SETFLAGS || request == FS_IOC_FSSETXATTR;
        void *argument;
        va_list ap;
        int r;

        va_start(ap, request);
        argument = va_arg(ap, void *);
        va_end(ap);
        if (!sets_flags)
                return f(fd, request, argument);
        r = calling("setflags", fd, NULL) < 0 ? -1 : f(fd, request, argument);
        called("setflags", r, fd, NULL);
        return r;
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
                called("openat", r, fd, p);
        return r;
}
