/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What paths lead to, remembered for some minutes. All is looked up with the rights of the program that
 * named the path (fsuid, fsgid, groups), so that nobody learns by us what he may not see himself, and
 * remembered for those with the same rights. Only directories of the overlays are entered, through a mount
 * of our own. */
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "base/clock.h"
#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/mount/mount-clone.h"
#include "core/paths/paths-internal.h"

#define KNOWN_MOST 4096u
#define KNOWN_USEC (300 * USEC_PER_SEC) /* until it is looked up anew */
#define KEY_MAX (32 + PATH_MAX)

void paths_known_drop(Paths *p, PathsKnown *k) {
        HASH_DEL(p->known, k);
        free(k->overlay);
        free(k->relative);
        free(k->run_path);
        free(k);
}

void paths_known_drop_all(Paths *p) {
        PathsKnown *k, *next;

        HASH_ITER(hh, p->known, k, next)
        paths_known_drop(p, k);
        p->is_full = false;
}

static bool make_room(Paths *p) {
        PathsKnown *k, *next;

        if (HASH_COUNT(p->known) < KNOWN_MOST || p->is_full)
                return !p->is_full;
        HASH_ITER(hh, p->known, k, next) {
                if (k->n == 0)
                        paths_known_drop(p, k);
        }
        p->is_full = HASH_COUNT(p->known) >= KNOWN_MOST;
        return !p->is_full;
}

/* kind: the same path may be asked for as a directory and as an executable. */
static PathsKnown *get(Paths *p, char kind, const char *path, bool *ret_is_new) {
        PathsKnown *k = NULL;
        char key[KEY_MAX];

        (void) snprintf(key, sizeof(key), "%c%016" PRIx64 "%s", kind, p->process.credentials, path);
        HASH_FIND_STR(p->known, key, k);
        *ret_is_new = false;
        if (k && (k->n > 0 || p->now_usec < k->until_usec))
                return k;
        if (k)
                paths_known_drop(p, k);
        k = make_room(p) ? calloc(1, sizeof(PathsKnown) + strlen(key) + 1) : NULL;
        if (!k)
                return NULL;
        strcpy(k->key, key);
        k->until_usec = p->now_usec + KNOWN_USEC;
        HASH_ADD_STR(p->known, key, k);
        *ret_is_new = true;
        return k;
}

void paths_leave_root(Paths *p) {
        p->root_fd = fd_close(p->root_fd);
        p->root_of = NULL;
        mount_table_done(&p->mounts);
}

static int open_root(Paths *p, const OverlayPlace *place) {
        struct statx st;

        if (p->root_of == place)
                return 0;
        paths_leave_root(p);
        p->root_fd = mount_clone_open(place->mount_point, O_PATH);
        if (p->root_fd < 0)
                return p->root_fd;
        if (statx(p->root_fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0 ||
            makedev(st.stx_dev_major, st.stx_dev_minor) != place->device)
                return -ENODEV;
        if (mount_table_read(MOUNTINFO, &p->mounts) < 0)
                return -ENOMEM;
        p->root_of = place;
        return 0;
}

static int open_as_program(const Paths *p, const char *path, int flags, uint64_t resolve) {
        struct open_how how = {
                .flags = (uint64_t) (O_PATH | O_CLOEXEC | flags),
                .resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | resolve,
        };
        long fd = -1;
        int error = EPERM;

        if (paths_act_as(&p->process)) {
                fd = syscall(SYS_openat2, p->root_fd, path, &how, sizeof(how));
                error = errno;
        }
        paths_act_as_root(&p->process);
        return fd < 0 ? -error : (int) fd;
}

/* Where it is without symlinks; *ret NULL: nowhere on the overlay. */
static int look_up(const Paths *p, const char *relative, char **ret) {
        _cleanup_close_ int fd = open_as_program(p, relative, O_DIRECTORY, RESOLVE_NO_SYMLINKS);
        _cleanup_free_ char *root = NULL, *path = NULL;
        const char *rest;

        if (fd >= 0) {
                *ret = strdup(relative);
                return *ret ? 0 : -ENOMEM;
        }
        if (fd != -ELOOP)
                return fd;
        fd = open_as_program(p, relative, O_DIRECTORY, 0);
        if (fd < 0)
                return fd;
        if (fd_path(p->root_fd, &root) < 0 || fd_path(fd, &path) < 0)
                return -ENOENT;
        rest = path_startswith(path, root);
        *ret = rest ? strdup(rest) : NULL;
        return rest && !*ret ? -ENOMEM : 0;
}

/* Our mount has not those that others have made on the overlay: what these cover nobody searches. */
static bool is_covered(const Paths *p, const char *relative) {
        _cleanup_free_ char *path = path_join(p->root_of->mount_point, relative);
        const MountEntry *e = path ? mount_table_reach(&p->mounts, path) : NULL;

        return !e || e->device != p->root_of->device;
}

PathsKnown *
paths_known_directory(Paths *p, const char *path, const OverlayPlace *place, const char *relative) {
        bool is_new;
        PathsKnown *k = get(p, 'd', path, &is_new);

        if (!k || !is_new)
                return k;
        paths_say_busy(p, place);
        if (open_root(p, place) < 0 || look_up(p, relative, &k->relative) < 0 || !k->relative)
                return k;
        /* The root is always merged; what begins with this is ours. */
        if (k->relative[0] != '\0' && strncmp(k->relative, ".ovlfind", strlen(".ovlfind")) != 0 &&
            !is_covered(p, k->relative))
                k->overlay = strdup(place->name);
        return k;
}

static int read_file(uint64_t offset, void *buffer, size_t size, void *userdata) {
        ssize_t n = pread(*(const int *) userdata, buffer, size, (off_t) offset);

        return n < 0 ? -errno : (size_t) n < size ? -ENODATA : 0;
}

/* Nothing but a file is opened for more than its name. */
static int open_file(const Paths *p, const char *relative) {
        _cleanup_close_ int fd = open_as_program(p, relative, O_NOFOLLOW, RESOLVE_NO_SYMLINKS);
        char name[PROC_FD_MAX];
        struct statx st;
        int r = fd;

        if (r < 0)
                return r;
        if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0 || !S_ISREG(st.stx_mode))
                return -EINVAL;
        proc_fd_path(name, fd, "");
        if (!paths_act_as(&p->process))
                r = -EPERM;
        else {
                r = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
                r = r < 0 ? -errno : r;
        }
        paths_act_as_root(&p->process);
        return r;
}

static bool read_run_path(Paths *p, const OverlayPlace *place, const char *relative, char ret[PATH_MAX]) {
        _cleanup_close_ int fd = -EBADF;

        paths_say_busy(p, place);
        if (open_root(p, place) < 0 || is_covered(p, relative))
                return false;
        fd = open_file(p, relative);
        return fd >= 0 && paths_from_elf(read_file, &fd, ret);
}

bool paths_known_run_path(
        Paths *p,
        const char *path,
        const OverlayPlace *place,
        const char *relative,
        char ret[static PATH_MAX]) {
        bool is_new;
        PathsKnown *k = get(p, 'x', path, &is_new);

        if (k && is_new && read_run_path(p, place, relative, ret))
                k->run_path = strdup(ret);
        if (!k || !k->run_path)
                return false;
        strcpy(ret, k->run_path);
        return true;
}
