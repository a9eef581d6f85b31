/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A note about an old superblock, should the worker that waits for its end not live to see it: a file per
 * superblock, locked by that worker. It is named BOOT.ID with the id of the mount that was swapped out,
 * which the kernel gives only once, so it cannot be about another one (since Linux 6.8; before, there is no
 * such file; docs/overlayfs.md 7.8). In it: "MOUNT-ID MAJOR:MINOR WORK". Nothing is ended or removed because
 * of it here: drain.c does that. */

/* The next worker finds the superblock through whoever still has something open in it; without one it asks
 * for the work directory until that is free. */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/sysmacros.h>

#include "base/fs-util.h"
#include "base/proc-scan.h"
#include "base/str.h"
#include "core/mount/mount-table.h"
#include "core/remount/remount-internal.h"

#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x4000U
#endif

#define BOOT_ID "/proc/sys/kernel/random/boot_id"
#define BOOT_ID_LENGTH 36
#define RECORD_MAX (PATH_MAX + 64)

/* 0 where the kernel has none. */
static uint64_t unique_id(int fd) {
        struct statx st;

        if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MNT_ID_UNIQUE, &st) < 0 ||
            !(st.stx_mask & STATX_MNT_ID_UNIQUE))
                return 0;
        return st.stx_mnt_id;
}

static int read_boot_id(char ret[static BOOT_ID_LENGTH + 1]) {
        _cleanup_fclose_ FILE *f = fopen(BOOT_ID, "re");

        if (!f)
                return -errno;
        return fgets(ret, BOOT_ID_LENGTH + 1, f) && strlen(ret) == BOOT_ID_LENGTH ? 0 : -EIO;
}

static int lock_record(const Context *context, const char *name, int flags) {
        int fd = openat(context->drains_fd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | flags, 0600), r;

        if (fd < 0)
                return -errno;
        if (flock(fd, LOCK_EX | LOCK_NB) >= 0)
                return fd;
        r = -errno;
        (void) close(fd);
        return r;
}

int drain_record(const Context *context, Drain *d) {
        char boot[BOOT_ID_LENGTH + 1], text[RECORD_MAX];
        uint64_t id = unique_id(d->root_fd);
        int n, r = read_boot_id(boot);

        if (r < 0 || id == 0 || context->drains_fd < 0)
                return r;
        d->name = str_format("%s.%llu", boot, (unsigned long long) id);
        if (!d->name)
                return -ENOMEM;
        n = snprintf(
                text, sizeof(text), "%d %u:%u %s", d->mount_id, major(d->device), minor(d->device), d->work);
        r = d->record_fd = lock_record(context, d->name, O_CREAT);
        return r < 0 ? r : fd_write_all(d->record_fd, text, (size_t) n);
}

void drain_forget(const Context *context, Drain *d) {
        if (d->name)
                (void) unlinkat(context->drains_fd, d->name, 0);
}

/* Looking for it. */

typedef struct Hunt {
        Drain *d;
        uint64_t id;
        int fd; /* of something on it */
} Hunt;

static bool is_directory(int fd) {
        _cleanup_close_ int up = openat(fd, "..", O_PATH | O_CLOEXEC);

        return up >= 0;
}

/* Whether it is on the mount, and a directory: the root is reached from that. Anything else only keeps the
 * superblock from vanishing unseen. statx() last: what is on other mounts is not to be asked. */
static bool take_if_found(Hunt *h, int dfd, const char *name) {
        _cleanup_close_ int fd = openat(dfd, name, O_PATH | O_CLOEXEC);

        if (fd < 0 || fd_mount_id(fd) != h->d->mount_id || unique_id(fd) != h->id)
                return false;
        if (h->fd >= 0 && !is_directory(fd))
                return false;
        (void) fd_close(h->fd);
        h->fd = TAKE_FD(fd);
        return is_directory(h->fd);
}

static int visit_task(const ProcTask *t, void *userdata) {
        _cleanup_closedir_ DIR *d = NULL;
        Hunt *h = userdata;
        struct dirent *e;
        int fd;

        if (take_if_found(h, t->fd, "cwd") || take_if_found(h, t->fd, "root"))
                return WALK_ENOUGH;
        fd = openat(t->fd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        d = fd < 0 ? NULL : fdopendir(fd);
        while (d && (e = readdir(d)))
                if (e->d_name[0] != '.' && take_if_found(h, dirfd(d), e->d_name))
                        return WALK_ENOUGH;
        return 0;
}

/* A copy of the mount in another namespace has other ids, but shows the same work directory. */
static int visit_table(const MountTable *t, pid_t pid, const char *namespace, void *userdata) {
        Hunt *h = userdata;

        for (size_t i = 0; i < t->n; i++) {
                const MountEntry *e = t->items + i;
                _cleanup_free_ char *work = NULL, *path = NULL;
                _cleanup_close_ int fd = -EBADF;

                if (e->device != h->d->device || strcmp(e->type, "overlay") != 0 ||
                    mount_options_next(e->fs_options, "workdir", NULL, &work) <= 0)
                        continue;
                mount_option_unescape(work);
                if (strcmp(work, h->d->work) != 0)
                        continue;
                path = str_format("/proc/%d/root%s", (int) pid, e->target);
                if (!path)
                        return -ENOMEM;
                fd = open(path, O_PATH | O_CLOEXEC);
                if (fd < 0 || fd_mount_id(fd) != e->id)
                        continue;
                h->d->mount_id = -1; /* that mount is not ours, but one of those that hold it */
                h->fd = TAKE_FD(fd);
                return WALK_ENOUGH;
        }
        return 0;
}

/* From a directory up to the root of its mount, which is above itself once nothing is mounted there. */
static int open_root(int fd) {
        for (unsigned n = 0; n < PATH_MAX; n++) {
                _cleanup_close_ int up = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);

                if (up < 0 || fd_mount_id(up) != fd_mount_id(fd) || fd_is_same(fd, up) != 0)
                        break;
                (void) close(fd);
                fd = TAKE_FD(up);
        }
        return fd;
}

/* Who holds it may not be found: a descriptor on its way through a socket, a task on its way out of the
 * kernel. Whether it is over, its work directory tells then. */
static int hunt(Drain *d, uint64_t id) {
        Hunt h = { .d = d, .id = id, .fd = -EBADF };
        int r = proc_tasks_foreach(NULL, visit_task, &h);

        if (r >= 0 && h.fd < 0)
                r = mount_namespaces_foreach(NULL, visit_table, &h);
        d->root_fd = h.fd < 0 ? h.fd : open_root(h.fd);
        return r < 0 && r != WALK_ENOUGH ? r : 1;
}

static int parse(const char *text, Drain *d) {
        unsigned device_major, device_minor;
        int n = 0;

        if (sscanf(text, "%d %u:%u %n", &d->mount_id, &device_major, &device_minor, &n) != 3 || n == 0)
                return -EINVAL;
        d->device = makedev(device_major, device_minor);
        d->work = strdup(text + n);
        return d->work ? 0 : -ENOMEM;
}

typedef struct Adoption {
        const Context *context;
        char boot[BOOT_ID_LENGTH + 1];
        MountTable table;
        Drain *found;
} Adoption;

/* 1: d may be alive. */
static int adopt(const Adoption *a, const char *name, Drain *d) {
        uint64_t id = strtoull(name + BOOT_ID_LENGTH + 1, NULL, 10);
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        if (strncmp(name, a->boot, BOOT_ID_LENGTH) != 0 || id == 0)
                return 0;
        r = file_read(a->context->drains_fd, name, RECORD_MAX, &text, &size);
        if (r >= 0)
                r = parse(text, d);
        if (r < 0)
                return r;
        /* A swap was killed before it changed anything, or the id is another mount's by now. */
        return mount_table_find(&a->table, d->mount_id) ? 0 : hunt(d, id);
}

static int visit_record(int dfd, const char *name, unsigned char type, void *userdata) {
        _cleanup_(drain_freep) Drain *d = drain_new();
        Adoption *a = userdata;
        int r;

        if (!d)
                return -ENOMEM;
        d->record_fd = strlen(name) > BOOT_ID_LENGTH ? lock_record(a->context, name, 0) : -EBADF;
        if (d->record_fd < 0) /* -EWOULDBLOCK: it has its worker */
                return 0;
        d->name = strdup(name);
        r = d->name ? adopt(a, name, d) : -ENOMEM;
        if (r > 0) {
                a->found = TAKE_PTR(d);
                return WALK_ENOUGH;
        }
        if (r == 0 || r == -EINVAL)
                drain_forget(a->context, d);
        return 0;
}

int drain_adopt(const Context *context, Drain **ret) {
        Adoption a = { .context = context };
        int r;

        if (context->drains_fd < 0)
                return 0;
        r = read_boot_id(a.boot);
        if (r >= 0)
                r = mount_table_read(MOUNTINFO, &a.table);
        if (r >= 0)
                r = dir_foreach(context->drains_fd, visit_record, &a);
        mount_table_done(&a.table);
        if (r < 0 && r != WALK_ENOUGH)
                return r;
        *ret = a.found;
        return a.found ? 1 : 0;
}

Drain *drain_new(void) {
        Drain *d = calloc(1, sizeof(Drain));

        if (d)
                d->root_fd = d->record_fd = -EBADF;
        return d;
}

Drain *drain_free(Drain *d) {
        if (!d)
                return NULL;
        (void) fd_close(d->root_fd);
        (void) fd_close(d->record_fd);
        free(d->name);
        free(d->work);
        free(d);
        return NULL;
}
