/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What one worker of torture does and what it believes. Names are not used twice, so that an operation that
 * arrives late cannot be mistaken for another one. */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "torture.h"

typedef void (*step_func)(Worker *w, Slot *s);

/* Where a slot's directory is reached from to make or read something: by path, or through a descriptor of
 * earlier. What is removed or renamed through it stays where others look. */
static int directory_fd(Worker *w, unsigned directory) {
        int *fd = &w->directory_fds[directory];

        if (!w->uses_descriptors || worker_random(w, 2) == 0)
                return AT_FDCWD;
        if (*fd >= 0 && worker_random(w, 64) == 0)
                *fd = fd_close(*fd);
        if (*fd < 0)
                *fd = open(w->directories[directory], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return *fd < 0 ? AT_FDCWD : *fd;
}

static int slot_path(Worker *w, const Slot *s, int fd, const char *suffix, char ret[static PATH_MAX]) {
        return fd == AT_FDCWD
                ? snprintf(ret, PATH_MAX, "%s/%s%s", w->directories[s->directory], s->name, suffix)
                : snprintf(ret, PATH_MAX, "%s%s", s->name, suffix);
}

static Slot *slot_find(Worker *w, bool is_used) {
        unsigned first = worker_random(w, SLOTS_MAX);

        for (unsigned i = 0; i < SLOTS_MAX; i++) {
                Slot *s = &w->slots[(first + i) % SLOTS_MAX];

                if (s->is_used == is_used)
                        return s;
        }
        return NULL;
}

static void slot_name(Worker *w, Slot *s) {
        snprintf(s->name, sizeof(s->name), "w%u-n%u", w->number, w->n_names++);
}

static void wrong(Worker *w, const char *what, const char *path, int error) {
        worker_count(w, w->uses_descriptors ? COUNT_WRONG_FD : COUNT_WRONG);
        worker_note(w, what, path, error);
}

static int content_write(int fd, unsigned content) {
        char line[32];
        int l = snprintf(line, sizeof(line), "content %u\n", content);

        return write(fd, line, (size_t) l) == l ? 0 : -EIO;
}

/* 0: as expected. Positive: readable, but another content. Negative errno. */
static int content_check_fd(int fd, unsigned content) {
        char is[64] = "", expected[32];

        snprintf(expected, sizeof(expected), "content %u\n", content);
        if (pread(fd, is, sizeof(is) - 1, 0) < 0)
                return -errno;
        return strcmp(is, expected) != 0;
}

static int content_check(int dfd, const char *path, unsigned content) {
        _cleanup_close_ int fd = openat(dfd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

        return fd < 0 ? -errno : content_check_fd(fd, content);
}

static void step_read(Worker *w, Slot *s) {
        int dfd = directory_fd(w, s->directory), r;
        char path[PATH_MAX];

        slot_path(w, s, dfd, s->is_dir ? "/inside" : "", path);
        r = content_check(dfd, path, s->content);
        if (r != 0)
                wrong(w, r > 0 ? "wrong content" : "read", path, -r);
}

static void step_absent(Worker *w, Slot *s) {
        char path[PATH_MAX];
        struct stat st;

        snprintf(
                path, sizeof(path), "%s/w%u-absent%u", w->directories[s->directory], w->number,
                worker_random(w, 1u << 30));
        if (lstat(path, &st) == 0 || errno != ENOENT)
                wrong(w, "absent name", path, errno);
}

static int file_create(int dfd, const char *path, unsigned content) {
        _cleanup_close_ int fd = openat(dfd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

        return fd < 0 ? -errno : content_write(fd, content);
}

static void step_create(Worker *w, Slot *used) {
        Slot *s = slot_find(w, false);
        char path[PATH_MAX], inside[PATH_MAX];
        int dfd, r;

        if (!s)
                return;
        *s = (Slot){ .directory = worker_random(w, w->n_directories), .is_dir = worker_random(w, 6) == 0 };
        slot_name(w, s);
        s->content = worker_random(w, 1u << 30);
        dfd = directory_fd(w, s->directory);
        slot_path(w, s, dfd, "", path);
        slot_path(w, s, dfd, "/inside", inside);
        if (s->is_dir) {
                if (mkdirat(dfd, path, 0755) < 0) {
                        wrong(w, "mkdir", path, errno);
                        return;
                }
                /* The directory may move between the two calls: until its file is in, it is tried again. */
                for (int i = 0; (r = file_create(dfd, inside, s->content)) == -ENOENT && i < 2000; i++) {
                        if (i == 0)
                                wrong(w, "create in new directory", inside, -r);
                        usleep(5000);
                }
        } else
                r = file_create(dfd, path, s->content);
        s->is_used = r == 0;
        if (r < 0)
                wrong(w, "create", path, -r);
}

static void step_remove(Worker *w, Slot *s) {
        int dfd = AT_FDCWD, r;
        char path[PATH_MAX], inside[PATH_MAX];

        slot_path(w, s, dfd, "", path);
        slot_path(w, s, dfd, "/inside", inside);
        if (!s->is_dir) {
                if (unlinkat(dfd, path, 0) < 0)
                        wrong(w, "unlink", path, errno);
                else
                        s->is_used = false;
                return;
        }
        if (unlinkat(dfd, inside, 0) < 0) {
                wrong(w, "unlink", inside, errno);
                return;
        }
        for (int i = 0; (r = unlinkat(dfd, path, AT_REMOVEDIR)) < 0 && i < 2000; i++) {
                if (i == 0)
                        wrong(w, "rmdir", path, errno);
                usleep(5000);
        }
        s->is_used = r < 0; /* its file is gone: what is left is found out at rest */
}

static void step_rename(Worker *w, Slot *s) {
        Slot to = *s;
        char from_path[PATH_MAX], to_path[PATH_MAX];

        if (worker_random(w, 2) == 0)
                to.directory = worker_random(w, w->n_directories);
        slot_name(w, &to);
        slot_path(w, s, AT_FDCWD, "", from_path);
        slot_path(w, &to, AT_FDCWD, "", to_path);
        if (rename(from_path, to_path) == 0)
                *s = to;
        else
                wrong(w, "rename", from_path, errno);
}

static void step_link(Worker *w, Slot *s) {
        Slot *to = slot_find(w, false);
        char from_path[PATH_MAX], to_path[PATH_MAX];
        int dfd = directory_fd(w, s->directory);

        if (!to || s->is_dir)
                return;
        *to = *s;
        slot_name(w, to);
        slot_path(w, s, dfd, "", from_path);
        slot_path(w, to, dfd, "", to_path);
        to->is_used = linkat(dfd, from_path, dfd, to_path, 0) == 0;
        if (!to->is_used)
                wrong(w, "link", from_path, errno);
}

static void held_check(Worker *w, Held *h) {
        char expected[32];

        snprintf(expected, sizeof(expected), "content %u\n", h->content);
        if (content_check_fd(h->fd, h->content) != 0 ||
            (h->map && memcmp(h->map, expected, strlen(expected)) != 0))
                wrong(w, "held file", expected, 0);
        if (h->map)
                (void) munmap(h->map, 4096);
        *h = (Held){ .fd = fd_close(h->fd) };
}

/* Holds a file open and mapped, and looks after a while whether it still is what it was. */
static void step_hold(Worker *w, Slot *s) {
        Held *h = &w->held[w->n_held > 0 ? worker_random(w, w->n_held) : 0];
        char path[PATH_MAX];

        if (h->fd >= 0)
                held_check(w, h);
        if (s->is_dir)
                return;
        slot_path(w, s, AT_FDCWD, "", path);
        h->fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (h->fd < 0) {
                wrong(w, "open", path, errno);
                return;
        }
        h->content = s->content;
        h->map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, h->fd, 0);
        if (h->map == MAP_FAILED)
                h->map = NULL;
        if (w->n_held == 0)
                held_check(w, h);
}

/* A watch on something that somebody has loaded, which is renamed before the watch goes: what the kernel
 * then writes depends on what it had in memory. */
static void step_watch(Worker *w, Slot *s) {
        Watched *t = w->n_watched > 0 ? &w->watched[worker_random(w, w->n_watched)] : NULL;
        char path[PATH_MAX];

        if (!t)
                return;
        if (t->wd > 0) {
                if (t->slot->is_used)
                        step_rename(w, t->slot);
                (void) inotify_rm_watch(w->inotify_fd, t->wd); /* it goes with the last name, too */
        }
        slot_path(w, s, AT_FDCWD, "", path);
        *t = (Watched){ .wd = inotify_add_watch(w->inotify_fd, path, IN_ATTRIB), .slot = s };
        if (t->wd < 0)
                wrong(w, "watch", path, errno);
}

static Slot *slot_by_name(Worker *w, unsigned directory, const char *name) {
        for (unsigned i = 0; i < SLOTS_MAX; i++) {
                Slot *s = &w->slots[i];

                if (s->is_used && s->directory == directory && strcmp(s->name, name) == 0)
                        return s;
        }
        return NULL;
}

static void note_strange(Worker *w, unsigned directory, const char *name) {
        char path[PATH_MAX];

        snprintf(path, sizeof(path), "%s/%s", w->directories[directory], name);
        worker_note(w, "lost: should not be there", path, 0);
}

/* Every name of ours in a listing is in the model, and as many as there. Returns the number of differences.
 */
static unsigned listing_compare(Worker *w, unsigned directory, bool tell) {
        _cleanup_closedir_ DIR *d = opendir(w->directories[directory]);
        unsigned known = 0, listed = 0, strange = 0;
        char prefix[16];
        struct dirent *de;

        if (!d)
                return 1;
        snprintf(prefix, sizeof(prefix), "w%u-", w->number);
        for (unsigned i = 0; i < SLOTS_MAX; i++)
                known += w->slots[i].is_used && w->slots[i].directory == directory;
        while ((de = readdir(d))) {
                if (strncmp(de->d_name, prefix, strlen(prefix)) != 0)
                        continue;
                if (slot_by_name(w, directory, de->d_name))
                        listed++;
                else {
                        strange++;
                        if (tell)
                                note_strange(w, directory, de->d_name);
                }
        }
        return strange + known - listed;
}

static void step_list(Worker *w, Slot *s) {
        if (listing_compare(w, s->directory, false) != 0)
                wrong(w, "listing", w->directories[s->directory], 0);
}

void model_step(Worker *w) {
        static const struct {
                unsigned weight;
                step_func func;
        } steps[] = {
                { 25, step_read },   { 10, step_absent }, { 15, step_create },
                { 10, step_remove }, { 15, step_rename }, { 5, step_link },
                { 10, step_hold },   { 5, step_list },    { 5, step_watch },
        };
        unsigned dice = worker_random(w, 100);
        Slot *s = slot_find(w, true);

        if (!s) {
                step_create(w, NULL);
                return;
        }
        for (size_t i = 0; i < ELEMENTSOF(steps); i++) {
                if (dice < steps[i].weight) {
                        worker_count(w, COUNT_OPERATIONS);
                        steps[i].func(w, s);
                        return;
                }
                dice -= steps[i].weight;
        }
}

static int load_directory(Worker *w, unsigned directory, unsigned *n) {
        _cleanup_closedir_ DIR *d = opendir(w->directories[directory]);
        struct dirent *de;
        char prefix[16], path[PATH_MAX];

        if (!d)
                return -errno;
        snprintf(prefix, sizeof(prefix), "w%u-", w->number);
        while ((de = readdir(d)) && *n < SLOTS_MAX / 2) {
                Slot *s = &w->slots[*n];
                _cleanup_fclose_ FILE *f = NULL;

                if (strncmp(de->d_name, prefix, strlen(prefix)) != 0)
                        continue;
                *s = (Slot){ .is_used = true, .is_dir = de->d_type == DT_DIR, .directory = directory };
                snprintf(s->name, sizeof(s->name), "%.40s", de->d_name);
                slot_path(w, s, AT_FDCWD, s->is_dir ? "/inside" : "", path);
                f = fopen(path, "re");
                if (!f || fscanf(f, "content %u", &s->content) != 1)
                        return -EIO;
                (*n)++;
        }
        return 0;
}

int model_load(Worker *w) {
        unsigned n = 0;
        int r;

        for (unsigned i = 0; i < HELD_MAX; i++)
                w->held[i].fd = -EBADF;
        w->inotify_fd = -EBADF;
        for (unsigned d = 0; d < w->n_directories; d++) {
                w->directory_fds[d] = -EBADF;
                r = load_directory(w, d, &n);
                if (r < 0)
                        return r;
        }
        return 0;
}

void model_release(Worker *w) {
        for (unsigned i = 0; i < HELD_MAX; i++) {
                if (w->held[i].map)
                        (void) munmap(w->held[i].map, 4096);
                w->held[i] = (Held){ .fd = fd_close(w->held[i].fd) };
        }
        w->inotify_fd = fd_close(w->inotify_fd);
        for (unsigned d = 0; d < w->n_directories; d++)
                w->directory_fds[d] = fd_close(w->directory_fds[d]);
}

void model_verify(Worker *w) {
        char path[PATH_MAX];

        for (unsigned i = 0; i < SLOTS_MAX; i++) {
                const Slot *s = &w->slots[i];
                int r;

                if (!s->is_used)
                        continue;
                slot_path(w, s, AT_FDCWD, s->is_dir ? "/inside" : "", path);
                r = content_check(AT_FDCWD, path, s->content);
                if (r != 0) {
                        worker_count(w, COUNT_LOST);
                        worker_note(w, "lost", path, r < 0 ? -r : 0);
                }
        }
        for (unsigned d = 0; d < w->n_directories; d++)
                for (unsigned n = listing_compare(w, d, true); n > 0; n--)
                        worker_count(w, COUNT_LOST);
}
