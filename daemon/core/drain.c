/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The old superblock after a swap. A descriptor of its root keeps its mount id from being given to another
 * mount, so the processes that use it are those with a descriptor, mapping, program or directory on a mount
 * of that id. */
#include <fcntl.h>
#include <poll.h>
#include <string.h>

#include "base/fs-util.h"
#include "core/generation.h"
#include "core/proc-scan.h"
#include "core/reconfigure.h"
#include "core/remount-internal.h"

#define LOOK_MIN_USEC (100 * USEC_PER_MSEC)
#define LOOK_MAX_USEC (10 * USEC_PER_SEC)
#define HOLDERS_NAMED 3

typedef struct Holders {
        int mount_id;
        unsigned n;
        char who[320];
} Holders;

/* O_PATH through the link gets to the kernel's file and asks no file system. */
static bool is_on_mount(int dfd, const char *name, int mount_id) {
        _cleanup_close_ int fd = openat(dfd, name, O_PATH | O_CLOEXEC);

        return fd >= 0 && fd_mount_id(fd) == mount_id;
}

static int visit_link(int dfd, const char *name, unsigned char type, void *userdata) {
        Holders *h = userdata;

        return is_on_mount(dfd, name, h->mount_id) ? -ECANCELED : 0;
}

static bool any_in(int process_fd, const char *directory, Holders *h) {
        _cleanup_close_ int fd = openat(process_fd, directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        return fd >= 0 && dir_foreach(fd, visit_link, h) == -ECANCELED;
}

static const char *kind_of_use(const ProcTask *t, Holders *h) {
        static const char *const links[] = { "cwd", "root" };

        for (size_t i = 0; i < ELEMENTSOF(links) && t->has_own_fs; i++)
                if (is_on_mount(t->fd, links[i], h->mount_id))
                        return links[i];
        if (t->has_own_files && any_in(t->fd, "fd", h))
                return "open";
        if (t->process != t->thread)
                return NULL;
        return is_on_mount(t->fd, "exe", h->mount_id)   ? "exe"
                : any_in(t->process_fd, "map_files", h) ? "mmap"
                                                        : NULL;
}

static int visit_task(const ProcTask *t, void *userdata) {
        char command[PROC_COMMAND_SIZE];
        Holders *h = userdata;
        const char *kind = kind_of_use(t, h);
        size_t used = strlen(h->who);

        if (!kind)
                return 0;
        if (h->n++ >= HOLDERS_NAMED)
                return 1;
        proc_read_command(t->process_fd, command);
        (void) snprintf(
                h->who + used, sizeof(h->who) - used, "%s%d (%s, %s)", used ? ", " : "", (int) t->process,
                command, kind);
        return 1;
}

static int holders_find(int mount_id, Holders *ret) {
        *ret = (Holders){ .mount_id = mount_id };
        return proc_tasks_foreach(NULL, visit_task, ret);
}

/* Mounts of the same superblock in other namespaces, or elsewhere, hold it without any process. */
static int count_mount(const MountTable *t, pid_t pid, const char *namespace, void *userdata) {
        const dev_t *device = userdata;

        for (size_t i = 0; i < t->n; i++)
                if (t->items[i].device == *device)
                        return -ECANCELED;
        return 0;
}

static bool is_mounted_elsewhere(dev_t device) {
        return mount_namespaces_foreach(NULL, count_mount, &device) == -ECANCELED;
}

/* A cancel, or the end of whoever asked, ends the pause within its steps. */
static void pause_for(const Site *site, uint64_t usec) {
        for (uint64_t t = 0; t < usec && !site_is_canceled(site); t += LOOK_MIN_USEC)
                (void) poll(NULL, 0, (int) (LOOK_MIN_USEC / USEC_PER_MSEC));
}

static void report(Drain *d, const Holders *h, bool is_read_only, drain_func func, void *userdata) {
        func(d, h->n, h->who, is_read_only, userdata);
}

static int wait_for_holders(Site *site, Drain *d, drain_func func, void *userdata) {
        bool is_read_only = false, was_read_only = false;
        Holders h = { 0 }, before = { 0 };

        for (uint64_t pause = LOOK_MIN_USEC;;
             pause = pause * 2 < LOOK_MAX_USEC ? pause * 2 : LOOK_MAX_USEC) {
                int r;

                is_read_only = is_read_only || superblock_make_read_only(d->root_fd) >= 0;
                r = holders_find(d->mount_id, &h);
                if (r < 0)
                        return r;
                if (h.n == 0 && !is_mounted_elsewhere(site->overlay->device))
                        return 0;
                if (h.n == 0) {
                        h.n = 1;
                        (void) snprintf(h.who, sizeof(h.who), "another mount of it");
                }
                if (h.n != before.n || strcmp(h.who, before.who) != 0 || is_read_only != was_read_only) {
                        report(d, &h, is_read_only, func, userdata);
                        pause = LOOK_MIN_USEC;
                }
                before = h;
                was_read_only = is_read_only;
                if (site_is_canceled(site))
                        return -ECANCELED;
                pause_for(site, pause);
        }
}

/* The last reference to a superblock is dropped by a task on its way out of the kernel, and some references
 * no /proc shows: the kernel says when it is over. Work directories that are not ours stay. */
static int wait_for_work(Site *site, Drain *d, drain_func func, void *userdata) {
        const Holders unknown = { .n = 1, .who = "something that /proc does not show" };
        Overlay old = { .mount_point = site->overlay->mount_point, .work = d->work };

        for (uint64_t pause = LOOK_MIN_USEC;;
             pause = pause * 4 < LOOK_MAX_USEC ? pause * 4 : LOOK_MAX_USEC) {
                _cleanup_(generation_done) Generation g = GENERATION_INIT;
                int r = generation_open_current(&old, &g);

                if (r > 0)
                        r = generation_remove(&g);
                else if (r == 0 || errno_is_gone(r))
                        return 0;
                if (r != 0)
                        return r < 0 ? r : 0;
                if (pause >= USEC_PER_SEC)
                        report(d, &unknown, true, func, userdata);
                if (site_is_canceled(site))
                        return -ECANCELED;
                pause_for(site, pause);
        }
}

int drain_wait(Site *site, Drain *d, drain_func func, void *userdata) {
        const Holders none = { 0 };
        int r;

        site->root_fd = fd_close(site->root_fd);
        r = d->is_covered ? (superblock_make_read_only(d->root_fd), 0)
                          : wait_for_holders(site, d, func, userdata);
        if (r < 0)
                return r;
        d->root_fd = fd_close(d->root_fd);
        r = d->is_covered ? 0 : wait_for_work(site, d, func, userdata);
        if (r >= 0)
                report(d, &none, true, func, userdata);
        return r;
}
