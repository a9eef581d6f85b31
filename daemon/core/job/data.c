/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/job/data.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fs-util.h"
#include "base/lock.h"
#include "base/path-util.h"
#include "core/context/batch.h"
#include "core/context/error-scope.h"
#include "core/context/staging.h"
#include "core/job/local.h"
#include "core/lower/content.h"
#include "core/state/audit.h"
#include "core/upper/layer.h"
#include "core/upper/names.h"

#define CHILD_MSEC 20
/* Copied by a process of its own, so that a cancel ends it. */
#define LARGE_BYTES (UINT64_C(16) << 20)

/* A file that stays as it is. */
typedef struct Left {
        char *path, *why;
} Left;

typedef struct Copy {
        Context *context;
        uint64_t max_bytes;
        Batch batch;
        Left *left; /* these three under its lock */
        size_t n_left;
        uint64_t reserved; /* bytes that are being copied */
} Copy;

typedef struct Task {
        Copy *copy;
        uint64_t bytes; /* that are written */
        char path[];
} Task;

static void fail(Copy *c, int r, const char *path) {
        Failure f = FAILURE_INIT;

        (void) failure_set_errno(
                &f, r, "cannot copy up the data of '%s/%s'", c->context->overlay->mount_point, path);
        batch_fail(&c->batch, &f);
}

/* Counts in what other threads are at. */
static bool reserve(Copy *c, const char *path, uint64_t size) {
        Failure f = FAILURE_INIT;
        int r;

        (void) pthread_mutex_lock(&c->batch.lock);
        r = guard_room(c->context, path, c->reserved + size, &f);
        if (r >= 0)
                c->reserved += size;
        (void) pthread_mutex_unlock(&c->batch.lock);
        if (r < 0)
                batch_fail(&c->batch, &f);
        return r >= 0;
}

static void release(Copy *c, uint64_t size) {
        LOCKED(&c->batch.lock);

        c->reserved -= size;
}

/* Takes why. */
static int remember(Copy *c, const char *path, char *why) {
        LOCKED(&c->batch.lock);

        if (!why || !ARRAY_GROW(c->left, c->n_left)) {
                free(why);
                return -ENOMEM;
        }
        c->left[c->n_left++] = (Left){ .path = strdup(path), .why = why };
        return 0;
}

/* From the main thread, as notes are to be. */
static void note_all(Copy *c) {
        for (size_t i = 0; i < c->n_left; i++) {
                context_note(c->context, c->left[i].path ?: "", "%s", c->left[i].why);
                free(c->left[i].path);
                free(c->left[i].why);
        }
        free(c->left);
}

/* Whether somebody was faster, and nothing is left to copy. Only the upper tells: an errno says the same of
 * a file whose content is nowhere. */
static bool is_settled(const Copy *c, const char *path) {
        _cleanup_close_ int fd = open_beneath(c->context->upper_fd, path, O_PATH | O_NOFOLLOW);
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };

        if (fd < 0)
                return errno_is_gone(fd);
        return upper_entry_read(fd, "", &e) >= 0 && e.class != UPPER_METACOPY;
}

/* What belongs to one file leaves that one as it is. */
static void conclude(Copy *c, const char *path, ErrorCall call, int r) {
        _cleanup_free_ char *full = NULL;

        if (r >= 0 || (errno_is_gone(r) && is_settled(c, path)))
                return;
        if (r == -ETXTBSY)
                r = remember(
                        c, path,
                        strdup("it is running: its data stays in the lower layer until it is asked for "
                               "again"));
        else if (error_scope(c->context, call, r) == SCOPE_ENTRY) {
                full = path_join(c->context->overlay->mount_point, path);
                r = full ? remember(
                                   c, path,
                                   error_reason(
                                           r, call, "copy up the data of", full, c->context->root_fd, path))
                         : -ENOMEM;
        }
        if (r < 0)
                fail(c, r, path);
}

/* What the kernel is going to write: it leaves out holes, roughly. To ask the lower about a small file would
 * cost more than it tells. */
static int measure(const Copy *c, Task *t) {
        _cleanup_close_ int fd = -EBADF;

        if (t->bytes <= CONTENT_KERNEL_STEP)
                return 0;
        fd = open_beneath(c->context->root_fd, t->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
        return fd < 0 ? fd : content_measure(fd, CONTENT_KERNEL_STEP, &t->bytes);
}

static int open_for_writing(int root_fd, const char *path) {
        return open_beneath(root_fd, path, O_WRONLY | O_NOFOLLOW | O_NONBLOCK);
}

/* As far as the upper tells; in *told of them so far. */
static void tell_bytes(const Copy *c, const Task *t, uint64_t *told) {
        struct stat st;
        uint64_t bytes;

        if (fstatat(c->context->upper_fd, t->path, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return;
        bytes = (uint64_t) st.st_blocks * 512 < t->bytes ? (uint64_t) st.st_blocks * 512 : t->bytes;
        if (bytes > *told) {
                atomic_fetch_add(&c->context->bytes_copied, bytes - *told);
                *told = bytes;
        }
}

/* Calls nothing but the kernel: other threads may have been anywhere. */
static __attribute__((noreturn)) void copy_in_child(int root_fd, const char *path) {
        int fd;

        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (dup3(root_fd, 3, O_CLOEXEC) < 0 && root_fd != 3)
                _exit(errno);
        (void) syscall(SYS_close_range, 4U, ~0U, 0U); /* locks, and the connection to the daemon */
        fd = open_for_writing(3, path);
        _exit(fd < 0 ? -fd : 0);
}

static int await_child(const Copy *c, const Task *t, pid_t pid, uint64_t *told) {
        bool is_killed = false;
        int status;
        pid_t r;

        while ((r = waitpid(pid, &status, WNOHANG)) == 0) {
                if (context_is_canceled(c->context) && !is_killed)
                        is_killed = kill(pid, SIGKILL) >= 0;
                (void) poll(NULL, 0, CHILD_MSEC);
                tell_bytes(c, t, told);
        }
        if (r < 0)
                return -errno;
        return !WIFEXITED(status) ? -ECANCELED : -WEXITSTATUS(status);
}

/* The kernel ends the copying of a large file for nothing less than the end of a process
 * (docs/overlayfs.md 3.6). */
static int copy_large(const Copy *c, const Task *t, uint64_t *told) {
        pid_t pid = fork();

        if (pid == 0)
                copy_in_child(c->context->root_fd, t->path);
        return pid < 0 ? -errno : await_child(c, t, pid, told);
}

/* Opening for writing is what makes the kernel copy. It leaves the time of the copy as modification time
 * (docs/overlayfs.md 3.6), which is put back at once, also when there was no room for all of it. */
static int copy_data(const Copy *c, const Task *t, uint64_t *told) {
        _cleanup_close_ int fd = -EBADF;
        struct stat before;
        int r;

        if (fstatat(c->context->upper_fd, t->path, &before, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        if (t->bytes < LARGE_BYTES)
                r = fd = open_for_writing(c->context->root_fd, t->path);
        else
                r = copy_large(c, t, told);
        if (fd < 0)
                fd = open_beneath(c->context->root_fd, t->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
        if (fd >= 0 && futimens(fd, (struct timespec[2]){ before.st_atim, before.st_mtim }) < 0)
                r = -errno;
        return r < 0 ? r : 0;
}

static void copy_one(void *argument, unsigned thread) {
        _cleanup_free_ Task *t = argument;
        uint64_t told = 0;
        Copy *c = t->copy;
        int r;

        if (batch_should_stop(&c->batch))
                return;
        r = measure(c, t);
        if (r >= 0 && !reserve(c, t->path, t->bytes))
                return;
        if (r >= 0) {
                r = copy_data(c, t, &told);
                release(c, t->bytes);
        }
        if (r >= 0)
                atomic_fetch_add(&c->context->bytes_copied, t->bytes - told);
        if (r != -ECANCELED)
                conclude(c, t->path, CALL_DATA, r);
}

static int submit(int dfd, const char *name, unsigned char type, const char *path, void *userdata) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        _cleanup_free_ Task *t = NULL;
        Copy *c = userdata;
        int r;

        if (is_staging_name(name))
                return 1;
        if (type != DT_REG)
                return 0;
        r = upper_entry_read(dfd, name, &e);
        conclude(c, path, CALL_READ, r);
        if (r < 0 || e.class != UPPER_METACOPY || e.size > c->max_bytes)
                return 0;
        t = malloc(sizeof(Task) + strlen(path) + 1);
        if (!t)
                return -ENOMEM;
        t->copy = c;
        t->bytes = e.size;
        (void) strcpy(t->path, path);
        r = pool_submit(c->batch.pool, copy_one, t);
        if (r >= 0)
                TAKE_PTR(t);
        return r;
}

int data_copy_up(Context *context, const char *path, uint64_t max_bytes, Failure *reterr) {
        Copy *c = calloc(1, sizeof(Copy)); /* threads that hang may outlive this call */
        int r, k;

        if (!c)
                return -ENOMEM;
        *c = (Copy){ .context = context, .max_bytes = max_bytes };
        batch_init(&c->batch, context);
        r = batch_begin(&c->batch);
        if (r >= 0) {
                context_doing(
                        context,
                        "it copies the content of files, which takes long when they are large; see whether "
                        "the lower layers and the upper file system answer");
                r = audit_upper(context, path, submit, c);
                k = batch_wait(&c->batch, JOB_RUNNING);
                if (k == RESULT_HUNG)
                        return k;
                r = r < 0 || !context_is_canceled(context) ? r : k;
        }
        batch_end(&c->batch);
        note_all(c);
        k = batch_outcome(&c->batch, reterr);
        r = r < 0 ? r : k;
        if (r >= 0)
                r = local_make(context, path);
        batch_done(&c->batch);
        free(c);
        return r < 0 ? failure_set_errno(reterr, r, "cannot copy up the data below '%s'", path) : 0;
}
