/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/lower.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "base/fs-util.h"
#include "base/hash.h"
#include "base/path-util.h"
#include "core/digest.h"
#include "core/site.h"

#define FSCONFIG_VALUE_MAX 255 /* of a string; the kernel refuses longer ones */
#define FH_HEADER 21           /* struct ovl_fb: version, magic, length, flags, type, uuid */
#define FH_MAGIC 0xfb

/* What changes the ctime of an entry once more within this time may leave it as it is: file systems take it
 * from a clock that ticks, and that of a server may be behind by as much. */
#define CTIME_SETTLED_NSEC UINT64_C(2000000000)

/* Handles of FUSE are numbers of the running server, given anew whenever the kernel has forgotten an inode;
 * its change times are whatever the server makes of them (that of sshfs is the modification time). */
static bool has_lasting_handles(int fd) {
        struct statfs sfs;

        return fstatfs(fd, &sfs) >= 0 && sfs.f_type != FUSE_SUPER_MAGIC;
}

static int open_layers(Lower *l, const Overlay *o, Failure *reterr) {
        l->layer_fds = calloc(o->n_lower, sizeof(int));
        if (!l->layer_fds)
                return -ENOMEM;
        l->has_ctime = true;
        for (; l->n_layers < o->n_lower; l->n_layers++) {
                int fd = open(o->lower[l->n_layers], O_PATH | O_DIRECTORY | O_CLOEXEC);

                if (fd < 0)
                        return failure_set(
                                reterr, FAILURE_LOWER_UNREACHABLE, errno,
                                "cannot open the lower layer '%s': %s; is it mounted?",
                                o->lower[l->n_layers], strerror(errno));
                l->layer_fds[l->n_layers] = fd;
                l->has_ctime &= has_lasting_handles(fd);
        }
        return 0;
}

/* Paths through /proc need no escaping and are short. */
static int set_layers(const Lower *l, int fs_fd) {
        char value[FSCONFIG_VALUE_MAX + 1], layer[sizeof("/proc/self/fd/") + 10];
        size_t n = 0;

        for (size_t i = 0; i < l->n_layers && n < sizeof(value); i++)
                n += (size_t) snprintf(
                        value + n, sizeof(value) - n, "%s/proc/self/fd/%d", i > 0 ? ":" : "",
                        l->layer_fds[i]);
        if (n < sizeof(value))
                return fsconfig(fs_fd, FSCONFIG_SET_STRING, "lowerdir", value, 0) < 0 ? -errno : 0;
        for (size_t i = 0; i < l->n_layers; i++) { /* since Linux 6.7 */
                (void) snprintf(layer, sizeof(layer), "/proc/self/fd/%d", l->layer_fds[i]);
                if (fsconfig(fs_fd, FSCONFIG_SET_STRING, "lowerdir+", layer, 0) < 0)
                        return -errno;
        }
        return 0;
}

/* The kernel itself says what its merged view is: whiteouts, redirects and opaque directories in layers. */
static int open_view(Lower *l) {
        _cleanup_close_ int fs_fd = -EBADF;
        int r;

        if (l->n_layers == 1) {
                l->view_fd = fcntl(l->layer_fds[0], F_DUPFD_CLOEXEC, 3);
                return l->view_fd < 0 ? -errno : 0;
        }
        fs_fd = fsopen("overlay", FSOPEN_CLOEXEC);
        if (fs_fd < 0)
                return -errno;
        r = set_layers(l, fs_fd);
        if (r < 0)
                return r;
        if (fsconfig(fs_fd, FSCONFIG_SET_STRING, "redirect_dir", "on", 0) < 0 ||
            fsconfig(fs_fd, FSCONFIG_SET_STRING, "metacopy", "on", 0) < 0 ||
            fsconfig(fs_fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                return -errno;
        l->view_fd = fsmount(fs_fd, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY);
        return l->view_fd < 0 ? -errno : 0;
}

int lower_open(const Overlay *o, Lower *ret, Failure *reterr) {
        _cleanup_(lower_done) Lower l = LOWER_INIT;
        int r = open_layers(&l, o, reterr);

        if (r >= 0)
                r = open_view(&l);
        if (r < 0)
                return failure_set_errno(
                        reterr, r, "cannot look at the lower layers of '%s'", o->mount_point);
        *ret = l;
        l = LOWER_INIT;
        return 0;
}

void lower_done(Lower *l) {
        for (size_t i = 0; i < l->n_layers; i++)
                (void) fd_close(l->layer_fds[i]);
        free(l->layer_fds);
        (void) fd_close(l->view_fd);
        *l = LOWER_INIT;
}

/* A name longer than a file system takes, or a file on the way, says "not there" as well. */
static int as_missing(int r) {
        return r == -ENOTDIR || r == -ELOOP || r == -ENAMETOOLONG ? -ENOENT : r;
}

int lower_stat(const Lower *l, const char *path, struct stat *ret) {
        _cleanup_close_ int fd = open_beneath(l->view_fd, path, O_PATH | O_NOFOLLOW);
        struct stat st;

        if (fd < 0)
                return as_missing(fd);
        if (fstat(fd, &st) < 0)
                return -errno;
        if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(0, 0))
                return -ENOENT; /* a whiteout of a single layer */
        *ret = st;
        return 0;
}

int lower_is_replaced(const Lower *l, const char *path) {
        _cleanup_free_ char *at = strdup(path);

        if (!at)
                return -ENOMEM;
        while (at[0] != '\0') {
                char *slash = strrchr(at, '/');
                struct stat st;
                int r = lower_stat(l, at, &st);

                if (r != -ENOENT)
                        return r < 0 ? r : !S_ISDIR(st.st_mode);
                *(slash ?: at) = '\0';
        }
        return 0;
}

uint64_t lower_ctime(const Lower *l, const struct stat *st) {
        uint64_t now = now_realtime_usec() * NSEC_PER_USEC, ctime = digest_ctime(st);

        return l->has_ctime && ctime + CTIME_SETTLED_NSEC < now ? ctime : 0;
}

int lower_open_dir(const Lower *l, const char *path) {
        return open_dir_beneath(l->view_fd, path);
}

static int handle_matches(int dfd, const char *path, const char *origin, size_t size) {
        FileHandle h = { .handle.handle_bytes = MAX_HANDLE_SZ };
        _cleanup_close_ int fd = open_beneath(dfd, path, O_PATH | O_NOFOLLOW);
        int mount_id;

        if (fd < 0 || !has_lasting_handles(fd))
                return -ENODATA;
        if (name_to_handle_at(fd, "", &h.handle, &mount_id, AT_EMPTY_PATH) < 0)
                return -ENODATA;
        return h.handle.handle_bytes == size - FH_HEADER &&
                h.handle.handle_type == (unsigned char) origin[4] &&
                memcmp(h.handle.f_handle, origin + FH_HEADER, h.handle.handle_bytes) == 0;
}

int lower_is_origin(const Lower *l, const char *path, const char *origin, size_t size) {
        int result = -ENODATA;

        if (!origin || size <= FH_HEADER || (unsigned char) origin[1] != FH_MAGIC ||
            (unsigned char) origin[2] != size)
                return -ENODATA;
        for (size_t i = 0; i < l->n_layers; i++) {
                int r = handle_matches(l->layer_fds[i], path, origin, size);

                if (r > 0)
                        return 1;
                if (r == 0)
                        result = 0;
        }
        return result;
}

/* Of a directory: inode number and file handle, which is its server's on network file systems. The device
 * number is another one after each mount. */
static int identify_directory(int fd, uint64_t *ret) {
        _cleanup_free_ char *handle = NULL;
        struct stat st;
        char text[32];

        if (fstat(fd, &st) < 0)
                return -errno;
        (void) snprintf(text, sizeof(text), "%llx", (unsigned long long) st.st_ino);
        *ret = hash_bytes(text, strlen(text));
        if (has_lasting_handles(fd) && file_handle_at(fd, "", &handle) >= 0)
                *ret ^= hash_bytes(handle, strlen(handle)) << 1;
        return 0;
}

/* The way to path in one layer, from its root to the last directory that is there. */
typedef struct Way {
        int fd; /* of the directory reached */
        const char *rest;
} Way;

/* One step down. 1: done, 0: nothing of that name, or no directory. */
static int way_step(Way *w) {
        size_t n = strcspn(w->rest, "/");
        char name[NAME_MAX + 1];
        int fd;

        if (n == 0 || n > NAME_MAX)
                return 0;
        memcpy(name, w->rest, n);
        name[n] = '\0';
        fd = open_beneath(w->fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW);
        if (fd < 0)
                return errno_is_gone(fd) ? 0 : fd;
        (void) fd_close(w->fd);
        w->fd = fd;
        w->rest += n + (w->rest[n] == '/');
        return 1;
}

static int identify_in_layer(int layer_fd, const char *path, FILE *f) {
        Way w = { .fd = open_beneath(layer_fd, "", O_PATH | O_DIRECTORY), .rest = path };
        int r = w.fd < 0 ? w.fd : 1;

        while (r > 0) {
                uint64_t id;

                r = identify_directory(w.fd, &id);
                if (r < 0)
                        break;
                (void) fprintf(f, "%llx,", (unsigned long long) id);
                r = way_step(&w);
        }
        (void) fd_close(w.fd);
        return r;
}

int lower_identify(const Lower *l, const char *path, char **ret) {
        _cleanup_free_ char *buffer = NULL;
        size_t size;
        FILE *f = open_memstream(&buffer, &size);
        int r = 0;

        if (!f)
                return -ENOMEM;
        for (size_t i = 0; r >= 0 && i < l->n_layers; i++) {
                r = identify_in_layer(l->layer_fds[i], path, f);
                (void) fputc(';', f);
        }
        if (fclose(f) != 0 && r >= 0)
                r = -ENOMEM;
        if (r >= 0)
                *ret = TAKE_PTR(buffer);
        return r < 0 ? r : 0;
}

static int find_any(int dfd, const char *name, unsigned char type, void *userdata) {
        *(bool *) userdata = true;
        return 0;
}

static int refuse(Failure *reterr, const char *path, const char *why) {
        return failure_set(
                reterr, FAILURE_LOWER_UNREACHABLE, ESTALE,
                "'/%s' is not there in the lower layers, but %s: it counts as out of reach, not as removed",
                path, why);
}

/* The last directory that is there in the merged view answers with what it holds, or nothing follows from
 * what it does not. */
static int check_around(const Lower *l, const char *path, Failure *reterr) {
        _cleanup_free_ char *around = strdup(path);
        bool has_any = false;
        int fd = -ENOENT, r;

        while (around && errno_is_gone(fd) && around[0] != '\0') {
                char *slash = strrchr(around, '/');

                *(slash ?: around) = '\0';
                fd = lower_open_dir(l, around);
        }
        if (!around)
                return -ENOMEM;
        r = fd < 0 ? fd : dir_foreach(fd, find_any, &has_any);
        (void) fd_close(fd);
        if (r < 0)
                return failure_set_errno(reterr, r, "cannot read the lower directory around '/%s'", path);
        return has_any ? 0 : refuse(reterr, path, "the directory around it is empty");
}

/* Whether the identities recorded for the way to known are about the way to path so far. */
static bool is_on_known_way(const Way *w, const char *path, const char *known) {
        size_t n = (size_t) (w->rest - path);

        n -= n > 0 && path[n - 1] == '/';
        return strncmp(path, known, n) == 0 && (n == 0 || known[n] == '/' || known[n] == '\0');
}

static int compare_directory(const Way *w, const char *path, const char **identity, Failure *reterr) {
        uint64_t then = strtoull(*identity, NULL, 16), now;
        int r = identify_directory(w->fd, &now);

        *identity += strcspn(*identity, ",;");
        *identity += **identity == ',';
        return r < 0 || now == then
                ? r
                : refuse(reterr, path, "a directory that leads to it is another one than before");
}

/* Follows path in one layer as far as it is there, comparing with *identity, which is moved to the next
 * layer's. */
static int
compare_in_layer(int layer_fd, const char *path, const char *known, const char **identity, Failure *reterr) {
        Way w = { .fd = open_beneath(layer_fd, "", O_PATH | O_DIRECTORY), .rest = path };
        int r = w.fd < 0 ? w.fd : 1;

        while (r > 0) {
                if (**identity && **identity != ';' && is_on_known_way(&w, path, known))
                        r = compare_directory(&w, path, identity, reterr);
                if (r >= 0)
                        r = way_step(&w);
        }
        (void) fd_close(w.fd);
        *identity += strcspn(*identity, ";");
        *identity += **identity == ';';
        return r < 0 ? failure_set_errno(reterr, r, "cannot follow '/%s' in a lower layer", path) : 0;
}

int lower_is_removed(
        const Lower *l, const char *path, const char *known, const char *identity, Failure *reterr) {
        struct stat st;
        int r = lower_stat(l, path, &st);

        if (r >= 0)
                return 0;
        if (r != -ENOENT)
                return failure_set_errno(reterr, r, "cannot look at '/%s' in the lower layers", path);
        if (!identity)
                return refuse(reterr, path, "it is not recorded which lower layers it was in");
        for (size_t i = 0; i < l->n_layers; i++) {
                if (*identity == '\0')
                        return refuse(reterr, path, "there are other lower layers than before");
                r = compare_in_layer(l->layer_fds[i], path, known, &identity, reterr);
                if (r < 0)
                        return r;
        }
        if (*identity == '\0') {
                r = check_around(l, path, reterr);
                return r < 0 ? r : 1;
        }
        return refuse(reterr, path, "there are other lower layers than before");
}
