/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* faultat: runs a worker, and lets one of its system calls fail, whoever makes it: our code, libc, libmount.
 * The kernel asks before each call (seccomp user notification), so it is not made at all. Calls count from
 * the moment on when the worker reads what it is asked for.
 *
 * What is asked of other processes in /proc does not count, unless FAULT_PROC=1: there may be any number of
 * them. FAULT_AT=N: the Nth call, 0: none. FAULT_CALL=NAME: the first of that name from there on, for
 * threads are not always as fast. FAULT_ERRNO=NUMBER: with this error; absent: the worker is killed instead.
 * FAULT_LOG=FILE: where each call up to that is noted, a line each: number, name, and the path it is about.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/macro.h"

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#endif

/* fd and path: which arguments say what it is about, -1 none. */
typedef struct Call {
        long number;
        const char *name;
        int fd, path;
} Call;

#define CALL(name, fd, path)                                                                                \
        { SYS_##name, #name, fd, path }
static const Call calls[] = {
        CALL(openat, 0, 1),
        CALL(openat2, 0, 1),
        CALL(open_tree, 0, 1),
        CALL(move_mount, 0, 1),
        CALL(fsopen, -1, 0),
        CALL(fsconfig, 0, -1),
        CALL(fsmount, 0, -1),
        CALL(fspick, 0, 1),
        CALL(mount, -1, 1),
        CALL(umount2, -1, 0),
        CALL(mount_setattr, 0, 1),
        CALL(unshare, -1, -1),
        CALL(setns, 0, -1),
        CALL(statx, 0, 1),
        CALL(newfstatat, 0, 1),
        CALL(fstatfs, 0, -1),
        CALL(faccessat2, 0, 1),
        CALL(getdents64, 0, -1),
        CALL(readlinkat, 0, 1),
        CALL(linkat, 0, 1),
        CALL(symlinkat, 1, 2),
        CALL(mkdirat, 0, 1),
        CALL(mknodat, 0, 1),
        CALL(renameat2, 0, 1),
        CALL(unlinkat, 0, 1),
        CALL(fsync, 0, -1),
        CALL(fdatasync, 0, -1),
        CALL(syncfs, 0, -1),
        CALL(fchown, 0, -1),
        CALL(fchownat, 0, 1),
        CALL(fchmod, 0, -1),
        CALL(fchmodat, 0, 1),
        CALL(utimensat, 0, 1),
        CALL(setxattr, -1, 0),
        CALL(lsetxattr, -1, 0),
        CALL(fsetxattr, 0, -1),
        CALL(getxattr, -1, 0),
        CALL(lgetxattr, -1, 0),
        CALL(fgetxattr, 0, -1),
        CALL(listxattr, -1, 0),
        CALL(llistxattr, -1, 0),
        CALL(flistxattr, 0, -1),
        CALL(removexattr, -1, 0),
        CALL(fremovexattr, 0, -1),
        CALL(inotify_init1, -1, -1),
        CALL(inotify_add_watch, -1, 1),
        CALL(fanotify_init, -1, -1),
        CALL(fanotify_mark, 3, 4),
        CALL(name_to_handle_at, 0, 1),
        CALL(open_by_handle_at, 0, -1),
        CALL(read, 0, -1),
        CALL(pread64, 0, -1),
        CALL(write, 0, -1),
        CALL(copy_file_range, 0, -1),
        CALL(ioctl, 0, -1),
        CALL(flock, 0, -1),
        CALL(pipe2, -1, -1),
        CALL(socket, -1, -1),
        CALL(sendto, 0, -1),
        CALL(recvfrom, 0, -1),
        CALL(clone3, -1, -1),
        CALL(statfs, -1, 0),
        CALL(ftruncate, 0, -1),
#ifdef SYS_rename /* old ones, that libc uses where there are any */
        CALL(open, -1, 0),
        CALL(readlink, -1, 0),
        CALL(access, -1, 0),
        CALL(mkdir, -1, 0),
        CALL(rename, -1, 0),
        CALL(renameat, 0, 1),
        CALL(unlink, -1, 0),
        CALL(rmdir, -1, 0),
#else
        CALL(renameat, 0, 1),
#endif
};

#define REQUEST_FD 3

static const Call *call_find(int number) {
        for (size_t i = 0; i < ELEMENTSOF(calls); i++)
                if (calls[i].number == number)
                        return calls + i;
        return NULL;
}

static int filter_install(void) {
        struct sock_filter code[ELEMENTSOF(calls) + 6];
        struct sock_fprog program = { .filter = code };
        size_t n = 0;

        code[n++] =
                (struct sock_filter) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
        code[n++] = (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
        code[n++] = (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
        code[n++] =
                (struct sock_filter) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
        for (size_t i = 0; i < ELEMENTSOF(calls); i++)
                code[n++] = (struct sock_filter) BPF_JUMP(
                        BPF_JMP | BPF_JEQ | BPF_K, (uint32_t) calls[i].number,
                        (uint8_t) (ELEMENTSOF(calls) - i), 0);
        code[n++] = (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
        code[n++] = (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
        program.len = (unsigned short) n;
        return (int) syscall(
                SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

/* What a call is about, as far as that can be seen from outside. */
static void describe(const struct seccomp_notif *q, const Call *c, char *ret, size_t size) {
        char link[64], path[PATH_MAX] = "";
        struct iovec here = { .iov_base = path, .iov_len = 256 }, there = here;
        ssize_t n;

        ret[0] = '\0';
        if (c->fd >= 0 && (int) q->data.args[c->fd] >= 0) {
                (void) snprintf(link, sizeof(link), "/proc/%u/fd/%d", q->pid, (int) q->data.args[c->fd]);
                n = readlink(link, ret, size - 1);
                ret[n > 0 ? n : 0] = '\0';
        }
        if (c->path < 0)
                return;
        there.iov_base = (void *) (uintptr_t) q->data.args[c->path];
        if (process_vm_readv((pid_t) q->pid, &here, 1, &there, 1, 0) <= 0) {
                there.iov_len = 0x1000 - (q->data.args[c->path] & 0xfff); /* to the end of its page */
                (void) process_vm_readv((pid_t) q->pid, &here, 1, &there, 1, 0);
        }
        path[255] = '\0';
        n = (ssize_t) strlen(ret);
        (void) snprintf(ret + n, size - (size_t) n, " %s", path);
}

/* "/proc", or what is there of a process by its number. */
static bool is_about_processes(const char *text) {
        if (strncmp(text, "/proc", 5) != 0)
                return false;
        return text[5] == '\0' || text[5] == ' ' || (text[5] == '/' && text[6] >= '0' && text[6] <= '9');
}

typedef struct Faults {
        long at, n;
        int error; /* 0: kill */
        bool has_begun, counts_proc, is_done;
        const char *call;
        FILE *log;
} Faults;

static void note(const Faults *f, const Call *c, char *text) {
        for (char *p = text; *p; p++)
                if (*p == '\n')
                        *p = '?';
        (void) fprintf(f->log, "%ld %s %s\n", f->n, c->name, text);
        (void) fflush(f->log);
}

static bool is_due(const Faults *f, const Call *c) {
        return f->at > 0 && !f->is_done && f->n >= f->at && (!f->call || strcmp(f->call, c->name) == 0);
}

static int answer(Faults *f, const struct seccomp_notif *q) {
        const Call *c = call_find(q->data.nr);
        char text[2 * PATH_MAX];

        if (q->data.nr == SYS_recvfrom && (int) q->data.args[0] == REQUEST_FD && !f->has_begun) {
                f->has_begun = true;
                return 0;
        }
        if (!c || !f->has_begun)
                return 0;
        describe(q, c, text, sizeof(text));
        if (!f->counts_proc && is_about_processes(text + (text[0] == ' ')))
                return 0;
        f->n++;
        if (f->log && (f->at == 0 || is_due(f, c)))
                note(f, c, text);
        if (!is_due(f, c))
                return 0;
        f->is_done = true;
        if (f->error == 0)
                (void) kill(getppid(), SIGKILL);
        return -f->error;
}

static void supervise(int listener) {
        const char *at = getenv("FAULT_AT"), *error = getenv("FAULT_ERRNO"), *log = getenv("FAULT_LOG");
        Faults f = { .at = at ? atol(at) : 0,
                     .error = error ? atoi(error) : 0,
                     .counts_proc = getenv("FAULT_PROC"),
                     .call = getenv("FAULT_CALL") };

        f.log = log ? fopen(log, "we") : NULL;
        for (;;) {
                struct seccomp_notif q = { 0 };
                struct seccomp_notif_resp a = { 0 };
                struct pollfd p = { .fd = listener, .events = POLLIN };

                if (poll(&p, 1, -1) < 0 || !(p.revents & POLLIN))
                        _exit(0);
                if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &q) < 0)
                        continue;
                a.id = q.id;
                a.error = answer(&f, &q);
                a.flags = a.error == 0 ? SECCOMP_USER_NOTIF_FLAG_CONTINUE : 0;
                (void) ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &a);
        }
}

/* The listener's number, and then that it was taken. */
typedef struct Shared {
        atomic_int listener;
        atomic_int is_taken;
} Shared;

static void take_over(Shared *s, pid_t parent) {
        int pidfd, listener;

        /* Nothing of the worker's may stay open here: its socket would not end. */
        (void) syscall(SYS_close_range, 3u, ~0u, 0u);
        pidfd = (int) syscall(SYS_pidfd_open, parent, 0);
        while (atomic_load(&s->listener) == 0)
                (void) sched_yield();
        listener = (int) syscall(SYS_pidfd_getfd, pidfd, atomic_load(&s->listener), 0);
        (void) close(pidfd);
        atomic_store(&s->is_taken, listener >= 0 ? 1 : -1);
        if (listener >= 0)
                supervise(listener);
        _exit(1);
}

int main(int argc, char **argv) {
        Shared *s = mmap(NULL, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        pid_t self = getpid();
        int listener;

        if (argc < 2 || s == MAP_FAILED)
                return 2;
        (void) prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        switch (fork()) {
        case -1:
                return 2;
        case 0:
                take_over(s, self);
        }
        listener = filter_install();
        if (listener < 0)
                return 2;
        atomic_store(&s->listener, listener);
        while (atomic_load(&s->is_taken) == 0)
                (void) sched_yield();
        (void) execv(argv[1], argv + 1);
        return 2;
}
