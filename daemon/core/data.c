/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/data.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/error-scope.h"
#include "core/layer.h"
#include "core/pool.h"
#include "core/staging.h"

#define WAIT_MSEC 100

/* A file that stays as it is. */
typedef struct Left {
        char *path, *why;
} Left;

typedef struct Copy {
        Site *site;
        uint64_t max_bytes;
        Pool *pool;
        pthread_mutex_t lock; /* the failure, and the lists */
        Failure failure;
        Left *left;
        size_t n_left;
        uint64_t reserved; /* bytes that are being copied; under lock */
        atomic_bool has_failed;
} Copy;

typedef struct Task {
        Copy *copy;
        uint64_t size;
        char path[];
} Task;

static void fail(Copy *c, int r, const char *path) {
        (void) pthread_mutex_lock(&c->lock);
        (void) failure_set_errno(
                &c->failure, r, "cannot copy up the data of '%s/%s'", c->site->overlay->mount_point, path);
        (void) pthread_mutex_unlock(&c->lock);
        atomic_store(&c->has_failed, true);
}

/* Counts in what other threads are at. */
static bool reserve(Copy *c, const char *path, uint64_t size) {
        int r;

        (void) pthread_mutex_lock(&c->lock);
        r = guard_room(c->site, path, c->reserved + size, &c->failure);
        if (r >= 0)
                c->reserved += size;
        else
                atomic_store(&c->has_failed, true);
        (void) pthread_mutex_unlock(&c->lock);
        return r >= 0;
}

static void release(Copy *c, uint64_t size) {
        (void) pthread_mutex_lock(&c->lock);
        c->reserved -= size;
        (void) pthread_mutex_unlock(&c->lock);
}

/* Takes why. */
static int remember(Copy *c, const char *path, char *why) {
        Left *grown;

        (void) pthread_mutex_lock(&c->lock);
        grown = why ? reallocarray(c->left, c->n_left + 1, sizeof(Left)) : NULL;
        if (grown) {
                c->left = grown;
                grown[c->n_left++] = (Left){ .path = strdup(path), .why = why };
        } else
                free(why);
        (void) pthread_mutex_unlock(&c->lock);
        return grown ? 0 : -ENOMEM;
}

/* From the main thread, as notes are to be. */
static void note_all(Copy *c) {
        for (size_t i = 0; i < c->n_left; i++) {
                site_note(c->site, c->left[i].path ?: "", "%s", c->left[i].why);
                free(c->left[i].path);
                free(c->left[i].why);
        }
        free(c->left);
}

/* What belongs to one file leaves that one as it is. */
static void conclude(Copy *c, const char *path, ErrorCall call, int r) {
        _cleanup_free_ char *full = NULL;

        if (r >= 0 || errno_is_gone(r) || r == -EXDEV)
                return;
        if (r == -ETXTBSY)
                r = remember(
                        c, path,
                        strdup("it is running: its data stays in the lower layer until it is asked for "
                               "again"));
        else if (error_scope(c->site, call, r) == SCOPE_ENTRY) {
                full = path_join(c->site->overlay->mount_point, path);
                r = full
                        ? remember(
                                  c, path,
                                  error_reason(r, call, "copy up the data of", full, c->site->root_fd, path))
                        : -ENOMEM;
        }
        if (r < 0)
                fail(c, r, path);
}

/* Opening for writing is what makes the kernel copy. It leaves the time of the copy as modification time
 * (seen on 6.18), which is put back at once, also when there was no room for all of it. */
static int copy_data(const Copy *c, const char *path) {
        _cleanup_close_ int fd = -EBADF, read_fd = -EBADF;
        struct stat before;
        int r;

        if (fstatat(c->site->upper_fd, path, &before, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        r = fd = open_beneath(c->site->root_fd, path, O_WRONLY | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0)
                read_fd = open_beneath(c->site->root_fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
        if ((fd >= 0 || read_fd >= 0) &&
            futimens(fd >= 0 ? fd : read_fd, (struct timespec[2]){ before.st_atim, before.st_mtim }) < 0)
                r = -errno;
        return r < 0 ? r : 0;
}

static void copy_one(void *argument, unsigned thread) {
        _cleanup_free_ Task *t = argument;
        Copy *c = t->copy;
        int r;

        if (atomic_load(&c->has_failed) || site_is_canceled(c->site))
                return;
        if (!reserve(c, t->path, t->size))
                return;
        r = copy_data(c, t->path);
        release(c, t->size);
        if (r >= 0)
                atomic_fetch_add(&c->site->bytes_copied, t->size);
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
        t->size = e.size;
        (void) strcpy(t->path, path);
        r = pool_submit(c->pool, copy_one, t);
        if (r >= 0)
                TAKE_PTR(t);
        return r;
}

/* -ESHUTDOWN: canceled, and threads hang in the kernel. */
static int wait_all(Copy *c) {
        for (unsigned waited = 0; !pool_wait(c->pool, WAIT_MSEC);) {
                site_progress(c->site, JOB_RUNNING, 0, 0);
                if (site_is_canceled(c->site) && ++waited > 50)
                        return -ESHUTDOWN;
        }
        return site_is_canceled(c->site) ? -ECANCELED : 0;
}

int data_copy_up(Site *site, const char *path, uint64_t max_bytes, Failure *reterr) {
        Copy *c = calloc(1, sizeof(Copy)); /* threads that hang may outlive this call */
        int r;

        if (!c)
                return -ENOMEM;
        *c = (Copy){ .site = site, .max_bytes = max_bytes };
        (void) pthread_mutex_init(&c->lock, NULL);
        r = pool_new(site->options.n_threads, &c->pool);
        if (r >= 0) {
                int k;

                site_doing(
                        site,
                        "it copies the content of files, which takes long when they are large; see whether "
                        "the "
                        "lower layers and the upper file system answer");
                r = audit_upper(site, path, submit, c);
                k = wait_all(c);
                r = r < 0 && k != -ESHUTDOWN ? r : k;
        }
        if (r == -ESHUTDOWN)
                return r;
        c->pool = pool_free(c->pool);
        note_all(c);
        if (r >= 0)
                r = -c->failure.error;
        failure_move(reterr, &c->failure);
        (void) pthread_mutex_destroy(&c->lock);
        free(c);
        return r < 0 ? failure_set_errno(reterr, r, "cannot copy up the data below '%s'", path) : 0;
}
