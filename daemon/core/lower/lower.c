/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/lower/lower.h"

#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include "base/clock.h"
#include "base/fs-util.h"
#include "base/hash.h"
#include "core/upper/digest.h"

#define FH_HEADER 21 /* struct ovl_fb: version, magic, length, flags, type, uuid */
#define FH_MAGIC 0xfb

/* What changes the ctime of an entry once more within this time may leave it as it is: file systems take it
 * from a clock that ticks (docs/overlayfs.md 9.2), and that of a server may be behind by as much. */
#define CTIME_SETTLED_NSEC UINT64_C(2000000000)

static bool is_whiteout(const struct stat *st) {
        return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

/* Whether the file system takes no name that is so long. */
static bool has_impossible_name(const Lower *l, const char *path) {
        struct statvfs st;

        if (fstatvfs(l->view_fd, &st) < 0 || st.f_namemax == 0)
                return false;
        for (size_t n; *path; path += n + (path[n] == '/')) {
                n = strcspn(path, "/");
                if (n > st.f_namemax)
                        return true;
        }
        return false;
}

/* Whether something that is no directory stands on the way to path: 1, 0, or an error. */
static int has_file_on_way(const Lower *l, const char *path) {
        _cleanup_free_ char *at = strdup(path);

        if (!at)
                return -ENOMEM;
        for (char *slash; (slash = strrchr(at, '/'));) {
                _cleanup_close_ int fd = -EBADF;
                struct stat st;

                *slash = '\0';
                fd = open_beneath(l->view_fd, at, O_PATH | O_NOFOLLOW);
                if (fd >= 0)
                        return fstat(fd, &st) < 0 ? -errno : !S_ISDIR(st.st_mode);
                if (fd != -ENOTDIR && fd != -ELOOP)
                        return fd;
        }
        return 0;
}

/* What says "not there" where a name is longer than its file system takes, or a file is on the way. A server
 * that answers a lookup so says nothing. */
static int as_missing(const Lower *l, const char *path, int error) {
        int r;

        if (error == -ENAMETOOLONG)
                return has_impossible_name(l, path) ? -ENOENT : error;
        if (error != -ENOTDIR && error != -ELOOP)
                return error;
        r = has_file_on_way(l, path);
        return r < 0 ? r : r > 0 ? -ENOENT : error;
}

int lower_stat(const Lower *l, const char *path, struct stat *ret) {
        _cleanup_close_ int fd = open_beneath(l->view_fd, path, O_PATH | O_NOFOLLOW);
        struct stat st;

        if (fd < 0)
                return as_missing(l, path, fd);
        if (fstat(fd, &st) < 0)
                return -errno;
        if (is_whiteout(&st))
                return -ENOENT; /* of a single layer */
        *ret = st;
        return lower_check_owner(l, path, &st);
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
        _cleanup_close_ int fd = open_dir_beneath(l->view_fd, path);
        struct stat st;
        int r;

        if (fd < 0)
                return fd;
        r = fstat(fd, &st) < 0 ? -errno : lower_check_owner(l, path, &st);
        return r < 0 ? r : TAKE_FD(fd);
}

/* Of several layers only what the merged view shows counts: a redirect of a layer may lead elsewhere. */
static bool is_shown(const Lower *l, const char *path, int fd) {
        struct stat st, shown;

        if (!l->view)
                return true;
        return fstat(fd, &st) >= 0 && lower_stat(l, path, &shown) >= 0 && st.st_ino == shown.st_ino;
}

static int handle_matches(const Lower *l, size_t i, const char *path, const char *origin, size_t size) {
        FileHandle h = { .handle.handle_bytes = MAX_HANDLE_SZ };
        _cleanup_close_ int fd =
                l->has_handles[i] ? open_beneath(l->layer_fds[i], path, O_PATH | O_NOFOLLOW) : -ENODATA;
        int mount_id;

        if (fd < 0 || !is_shown(l, path, fd))
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
                int r = handle_matches(l, i, path, origin, size);

                if (r > 0)
                        return 1;
                if (r == 0)
                        result = 0;
        }
        return result;
}

/* Of a directory: inode number and file handle, which is its server's on network file systems. The device
 * number is another one after each mount. */
static int identify_directory(int fd, bool has_handles, uint64_t *ret) {
        _cleanup_free_ char *handle = NULL;
        struct stat st;
        char text[32];

        if (fstat(fd, &st) < 0)
                return -errno;
        (void) snprintf(text, sizeof(text), "%llx", (unsigned long long) st.st_ino);
        *ret = hash_bytes(text, strlen(text));
        if (has_handles && file_handle_at(fd, "", &handle) >= 0)
                *ret ^= hash_bytes(handle, strlen(handle)) << 1;
        return 0;
}

/* The way to path in one layer, from its root to the last directory that is there. */
typedef struct Way {
        int fd; /* of the directory reached */
        bool has_handles;
        const char *rest;
} Way;

static Way way_begin(const Lower *l, size_t i, const char *path) {
        return (Way){
                .fd = open_beneath(l->layer_fds[i], "", O_PATH | O_DIRECTORY),
                .has_handles = l->has_handles[i],
                .rest = path,
        };
}

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

static int identify_in_layer(const Lower *l, size_t i, const char *path, FILE *f) {
        Way w = way_begin(l, i, path);
        int r = w.fd < 0 ? w.fd : 1;

        while (r > 0) {
                uint64_t id;

                r = identify_directory(w.fd, w.has_handles, &id);
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
                r = identify_in_layer(l, i, path, f);
                (void) fputc(';', f);
        }
        if (fclose(f) != 0 && r >= 0)
                r = -ENOMEM;
        if (r >= 0)
                *ret = TAKE_PTR(buffer);
        return r < 0 ? r : 0;
}

static int refuse(Failure *reterr, const char *path, const char *why) {
        return failure_set(
                reterr, FAILURE_LOWER_UNREACHABLE, ESTALE,
                "'/%s' is not there in the lower layers, but %s: it counts as out of reach, not as removed",
                path, why);
}

/* What a directory lists, and whether this is among it. */
typedef struct Listing {
        const char *name;
        bool has_any;
        bool has_name;
} Listing;

static int note_listed(int dfd, const char *name, unsigned char type, void *userdata) {
        Listing *listing = userdata;

        listing->has_any = true;
        listing->has_name |= strcmp(name, listing->name) == 0;
        return 0;
}

bool lower_is_whiteout(const Lower *l, const char *path) {
        for (size_t i = 0; i < l->n_layers; i++) {
                _cleanup_close_ int fd = open_beneath(l->layer_fds[i], path, O_PATH | O_NOFOLLOW);
                struct stat st;

                if (fd >= 0 && fstat(fd, &st) >= 0 && is_whiteout(&st))
                        return true;
        }
        return false;
}

/* Whether at, which is path or leads to it, is listed and still nothing that path could be. */
static bool leads_nowhere(const Lower *l, const char *at, const char *path) {
        _cleanup_close_ int fd = open_beneath(l->view_fd, at, O_PATH | O_NOFOLLOW);
        struct stat st;

        return lower_is_whiteout(l, at) ||
                (strcmp(at, path) != 0 && fd >= 0 && fstat(fd, &st) >= 0 && !S_ISDIR(st.st_mode));
}

static int add_name(int dfd, const char *name, unsigned char type, void *userdata) {
        return path_list_add(userdata, name);
}

int lower_list(const Lower *l, const char *path, PathList *ret) {
        _cleanup_close_ int fd = lower_open_dir(l, path);
        int r = fd < 0 ? fd : dir_foreach(fd, add_name, ret);

        path_list_sort(ret);
        return r;
}

/* n: of around, the last directory on the way to path that is there. It holds something, and does not list
 * what comes next. */
static int check_listing(const Lower *l, int fd, const char *path, size_t n, Failure *reterr) {
        const char *name = path + n + (n > 0);
        size_t length = (size_t) (name - path) + strcspn(name, "/");
        _cleanup_free_ char *at = strndup(path, length);
        Listing listing = { 0 };
        int r;

        if (!at)
                return -ENOMEM;
        listing.name = at + (name - path);
        r = dir_foreach(fd, note_listed, &listing);
        if (r < 0)
                return failure_set_errno(reterr, r, "cannot read the lower directory around '/%s'", path);
        if (listing.has_name && !leads_nowhere(l, at, path))
                return refuse(reterr, path, "a lower directory that leads to it lists it");
        return listing.has_any ? 0 : refuse(reterr, path, "the directory around it is empty");
}

/* The last directory that is there in the merged view answers with what it holds, or nothing follows from
 * what it does not. */
static int check_around(const Lower *l, const char *path, Failure *reterr) {
        _cleanup_free_ char *around = strdup(path);
        int fd = -ENOENT, r;

        while (around && errno_is_gone(fd) && around[0] != '\0') {
                char *slash = strrchr(around, '/');

                *(slash ?: around) = '\0';
                fd = lower_open_dir(l, around);
        }
        if (!around)
                return -ENOMEM;
        if (fd < 0)
                return failure_set_errno(reterr, fd, "cannot read the lower directory around '/%s'", path);
        r = check_listing(l, fd, path, strlen(around), reterr);
        (void) fd_close(fd);
        return r;
}

/* Whether the identities recorded for the way to known are about the way to path so far. */
static bool is_on_known_way(const Way *w, const char *path, const char *known) {
        size_t n = (size_t) (w->rest - path);

        n -= n > 0 && path[n - 1] == '/';
        return strncmp(path, known, n) == 0 && (n == 0 || known[n] == '/' || known[n] == '\0');
}

static int compare_directory(const Way *w, const char *path, const char **identity, Failure *reterr) {
        uint64_t then = strtoull(*identity, NULL, 16), now;
        int r = identify_directory(w->fd, w->has_handles, &now);

        *identity += strcspn(*identity, ",;");
        *identity += **identity == ',';
        return r < 0 || now == then
                ? r
                : refuse(reterr, path, "a directory that leads to it is another one than before");
}

/* Follows path in one layer as far as it is there, comparing with *identity, which is moved to the next
 * layer's. */
static int compare_in_layer(
        const Lower *l,
        size_t i,
        const char *path,
        const char *known,
        const char **identity,
        Failure *reterr) {
        Way w = way_begin(l, i, path);
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
                r = compare_in_layer(l, i, path, known, &identity, reterr);
                if (r < 0)
                        return r;
        }
        if (*identity == '\0') {
                r = check_around(l, path, reterr);
                return r < 0 ? r : 1;
        }
        return refuse(reterr, path, "there are other lower layers than before");
}
