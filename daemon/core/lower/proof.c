/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A layer is proved by an event of this very thread, in the order of the layers, or not at all: what cannot
 * be told is unproved, and nothing is handed out. */
#include "core/lower/proof.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/mount.h>
#include <sys/vfs.h>

#include "base/fs-util.h"
#include "base/str.h"
#include "core/context/error-scope.h"
#include "core/mount/mount-clone.h"
#include "core/mount/own-reads.h"

#define MARK_FLAGS (FAN_MARK_ONLYDIR | FAN_MARK_DONT_FOLLOW)
#define EVENTS (FAN_ACCESS | FAN_ONDIR) /* FAN_OPEN does not tell of the kernel itself before Linux 6.5 */
#define READS_MAX 3U                    /* of the root: somebody else may be listing it at the moment */
#define READS_PAUSE_MSEC 30
#define TRIES_MAX 64U /* of directories below the root */

typedef struct Proof {
        const Context *context;
        const Overlay *o;
        int *layer_fds;
        int *path_fds;
        struct stat *st; /* of what stands at the paths, or below them at name */
        const char *name;
        int fanotify_fd;
        size_t below, n_below; /* the layers whose directories are tried: one, or two neighbours */
        size_t last;           /* layer of the last event */
        size_t n_read;         /* layers that the last listing has read */
        unsigned n_tries;
        bool is_ordered; /* what is tried was read, one after the other */
        bool is_disordered;
        int denied; /* what opening a directory for an event said */
} Proof;

static int unproved(const Proof *p, size_t i, const char *why, Failure *reterr) {
        return failure_set(
                reterr, FAILURE_LOWER_UNPROVED, EREMCHG,
                "it is not proved that '%s' is the lower layer of '%s': %s; set LowerDir= in its "
                "configuration to where the layer is seen now",
                p->o->lower[i], p->o->mount_point, why);
}

/* EACCES and EPERM of a whole layer: it was withdrawn, or its server does not know this machine any more. */
static int unreachable(const Proof *p, size_t i, int error, Failure *reterr) {
        return failure_set(
                reterr, FAILURE_LOWER_UNREACHABLE, error,
                "cannot open the lower layer '%s' of '%s': %s; is it mounted, and may this machine read it?",
                p->o->lower[i], p->o->mount_point, strerror(error));
}

static bool is_same_file(const struct stat *a, const struct stat *b) {
        return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* "/." has what an automounter unmounted mounted again. */
static int open_path(Proof *p, size_t i, Failure *reterr) {
        _cleanup_free_ char *path = NULL;
        struct stat upper;
        int fd;

        path = str_format("%s/.", p->o->lower[i]);
        if (!path)
                return -ENOMEM;
        fd = mount_clone_open(path, O_PATH);
        if (errno_is_gone(fd))
                return unproved(p, i, "there is no such directory", reterr);
        if (fd < 0)
                return unreachable(p, i, -fd, reterr);
        p->path_fds[i] = fd;
        if (fstat(fd, p->st + i) < 0)
                return unreachable(p, i, errno, reterr);
        if (p->st[i].st_dev == p->o->device)
                return unproved(p, i, "the overlay itself is what stands there", reterr);
        /* The overlay reads its upper as well. */
        return fstat(p->context->upper_fd, &upper) >= 0 && is_same_file(p->st + i, &upper)
                ? unproved(p, i, "that is its upper layer", reterr)
                : 0;
}

static int set_mark(const Proof *p, size_t i) {
        return fanotify_mark(
                       p->fanotify_fd, FAN_MARK_ADD | MARK_FLAGS, EVENTS, p->path_fds[i],
                       p->name[0] ? p->name : ".") < 0
                ? -errno
                : 0;
}

/* The root of the overlay's own mount of a layer. It is below a layer's root where the overlay shows a
 * directory that was renamed. */
static int open_root(const Proof *p, int fd) {
        _cleanup_close_ int root_fd =
                openat(fd, p->name[0] ? ".." : ".", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        struct statx stx;

        if (root_fd < 0 || statx(root_fd, "", AT_EMPTY_PATH, 0, &stx) < 0 ||
            !(stx.stx_attributes & STATX_ATTR_MOUNT_ROOT))
                return -EBADF;
        return TAKE_FD(root_fd);
}

/* fd: a directory that the overlay has just read in this thread. */
static int take_read(int fd, void *userdata) {
        Proof *p = userdata;
        struct stat st;

        if (fstat(fd, &st) < 0)
                return -errno;
        for (size_t i = 0; i < p->o->n_lower; i++) {
                if (!is_same_file(&st, p->st + i))
                        continue;
                p->is_disordered |= i < p->last;
                p->last = i;
                p->n_read++;
                if (p->layer_fds[i] < 0)
                        p->layer_fds[i] = open_root(p, fd);
                break;
        }
        return 0;
}

static bool is_denied(int r) {
        return r == -EACCES || r == -EPERM || error_is_of_lower(r);
}

/* A directory that cannot be opened for its event belongs to a layer that does not answer, or denies it.
 * Lost events (-ENOBUFS) prove nothing, and the next try may. */
static int take_reads(Proof *p) {
        int r = own_reads_foreach(p->fanotify_fd, take_read, p);

        if (is_denied(r))
                p->denied = -r;
        return is_denied(r) || r == -ENOBUFS ? 0 : r;
}

static int not_told(const Proof *p, int r, Failure *reterr) {
        return failure_set_errno(
                reterr, r, "cannot tell which lower layers the overlay '%s' reads", p->o->mount_point);
}

static int prove_by_root(Proof *p, Failure *reterr) {
        int r;

        for (size_t i = 0; i < p->o->n_lower; i++) {
                r = set_mark(p, i);
                if (r < 0)
                        return is_denied(r)
                                ? unreachable(p, i, -r, reterr)
                                : unproved(p, i, "the kernel does not tell when it is read", reterr);
        }
        r = context_read_directory(p->context, p->name);
        (void) fanotify_mark(p->fanotify_fd, FAN_MARK_FLUSH, 0, AT_FDCWD, NULL);
        if (r < 0)
                return failure_set(
                        reterr, FAILURE_LOWER_UNREACHABLE, -r,
                        "cannot list '%s', and with it its lower layers: %s", p->o->mount_point,
                        strerror(-r));
        r = take_reads(p);
        return r < 0 ? not_told(p, r, reterr) : 0;
}

/* Sets marks on the directory name of the layers that are tried; false: not all have one. */
static bool mark_below(Proof *p) {
        for (size_t i = p->below; i < p->below + p->n_below; i++) {
                _cleanup_close_ int fd =
                        open_beneath(p->path_fds[i], p->name, O_PATH | O_DIRECTORY | O_NOFOLLOW);

                if (fd < 0 || fstat(fd, p->st + i) < 0 || set_mark(p, i) < 0)
                        return false;
        }
        return true;
}

static int try_below(int dfd, const char *name, unsigned char type, void *userdata) {
        Proof *p = userdata;
        int r;

        if (type != DT_DIR)
                return 0;
        if (p->n_tries++ >= TRIES_MAX)
                return WALK_ENOUGH;
        p->name = name;
        p->last = p->n_read = 0;
        if (mark_below(p))
                (void) context_read_directory(p->context, p->name); /* what was not read shows in n_read */
        (void) fanotify_mark(p->fanotify_fd, FAN_MARK_FLUSH, 0, AT_FDCWD, NULL);
        r = take_reads(p);
        p->is_ordered = p->n_read == p->n_below && !p->is_disordered;
        return r < 0 ? r : p->is_ordered || p->is_disordered ? WALK_ENOUGH : 0;
}

/* A directory has one parent: the same directory below, the same root. */
static bool is_root_of(const Proof *p, size_t i) {
        struct stat found;

        return p->layer_fds[i] >= 0 && fstat(p->layer_fds[i], &found) >= 0 &&
                is_same_file(p->st + i, &found);
}

static int prove_below(Proof *p, size_t i) {
        struct stat roots[2];
        int r;

        p->below = i;
        p->n_below = p->o->n_lower > 1 ? 2 : 1;
        p->n_tries = 0;
        p->is_ordered = false;
        memcpy(roots, p->st + i, p->n_below * sizeof(*roots));
        r = dir_foreach(p->path_fds[i], try_below, p);
        p->name = "";
        memcpy(p->st + i, roots, p->n_below * sizeof(*roots));
        for (size_t k = i; k < i + p->n_below; k++)
                if (!p->is_ordered || !is_root_of(p, k))
                        p->layer_fds[k] = fd_close(p->layer_fds[k]);
        return r == WALK_ENOUGH ? 0 : r;
}

/* While somebody has read a part of the listing of the overlay's root and holds it open, the kernel does not
 * read the layers again (ovl_cache_get(); docs/overlayfs.md 8.2). So each two neighbours are to have a
 * directory of the same name that it reads, in their order. */
static int prove_rest(Proof *p, Failure *reterr) {
        size_t n_steps = p->o->n_lower > 1 ? p->o->n_lower - 1 : p->o->n_lower;
        int r;

        for (size_t i = 0; i < n_steps && !p->is_disordered; i++) {
                r = prove_below(p, i);
                if (r < 0)
                        return is_denied(r) ? unreachable(p, i, -r, reterr) : not_told(p, r, reterr);
                if (!p->is_ordered)
                        break;
        }
        return 0;
}

/* Whether a layer of the overlay is on an overlay, or stacked in another way: then no overlay can be made of
 * the overlay (FILESYSTEM_MAX_STACK_DEPTH; docs/overlayfs.md 8.4). 0: it is not. */
static int try_stacking(int fd, void *userdata) {
        _cleanup_close_ int fs_fd = fsopen("overlay", FSOPEN_CLOEXEC);
        const Proof *p = userdata;
        struct stat st;
        char layers[64];

        (void) snprintf(layers, sizeof(layers), "/proc/self/fd/%d:/sys", fd);
        if (fs_fd < 0 || fstat(fd, &st) < 0 ||
            fsconfig(fs_fd, FSCONFIG_SET_STRING, "lowerdir", layers, 0) < 0 ||
            fsconfig(fs_fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                return -errno;
        return st.st_dev == p->o->device ? 0 : -ESTALE;
}

static bool is_overlay(int fd) {
        struct statfs sfs;

        return fstatfs(fd, &sfs) >= 0 && sfs.f_type == OVERLAYFS_SUPER_MAGIC;
}

/* An overlay that is a layer reads its own layers in the same thread. */
static int check_stack(const Proof *p, Failure *reterr) {
        size_t i = 0;

        if (mount_call_attached(p->o->mount_point, try_stacking, (void *) p) >= 0)
                return 0;
        while (i < p->o->n_lower && is_overlay(p->layer_fds[i]))
                i++;
        return i == p->o->n_lower
                ? 0
                : unproved(
                          p, i, "a lower layer is on an overlay itself, and this may be a layer of that",
                          reterr);
}

static int conclude(const Proof *p, Failure *reterr) {
        static const char not_read[] = "the overlay was not seen to read what stands there (while somebody "
                                       "else holds a listing of its root, that may not show)";

        if (p->is_disordered)
                return unproved(p, 0, "the overlay reads its layers in another order", reterr);
        for (size_t i = 0; i < p->o->n_lower; i++)
                if (p->layer_fds[i] < 0)
                        return p->denied > 0 ? unreachable(p, i, p->denied, reterr)
                                             : unproved(p, i, not_read, reterr);
        return check_stack(p, reterr);
}

static bool is_complete(const Proof *p) {
        size_t i = 0;

        while (i < p->o->n_lower && p->layer_fds[i] >= 0)
                i++;
        return i == p->o->n_lower || p->denied > 0;
}

/* Any layer: then the listing was not answered from memory, and those that were not read are none. */
static bool has_read(const Proof *p) {
        size_t i = 0;

        while (i < p->o->n_lower && p->layer_fds[i] < 0)
                i++;
        return i < p->o->n_lower;
}

static int run(Proof *p, Failure *reterr) {
        struct stat root;
        int r = 0;

        if (fstat(p->context->root_fd, &root) < 0 || root.st_dev != p->o->device)
                return unproved(p, 0, "another file system has been mounted there since", reterr);
        if (p->o->is_lower_unknown)
                return unproved(p, 0, "the mount table does not tell how many layers there are", reterr);
        for (size_t i = 0; i < p->o->n_lower && r >= 0; i++)
                r = open_path(p, i, reterr);
        if (r < 0)
                return r;
        p->fanotify_fd = fanotify_init(
                FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK | FAN_REPORT_TID | FAN_UNLIMITED_MARKS,
                O_RDONLY | O_CLOEXEC | O_LARGEFILE | O_NOATIME);
        if (p->fanotify_fd < 0)
                return failure_set(
                        reterr, FAILURE_LOWER_UNPROVED, errno,
                        "it is not proved that '%s' is the lower layer of '%s': the kernel gives no "
                        "fanotify group: %s%s",
                        p->o->lower[0], p->o->mount_point, strerror(errno),
                        errno == EMFILE ? "; raise fs.fanotify.max_user_groups (sysctl)" : "");
        for (unsigned i = 0; r >= 0 && i < READS_MAX && !is_complete(p); i++) {
                (void) poll(NULL, 0, i > 0 ? READS_PAUSE_MSEC : 0);
                p->last = 0;
                r = prove_by_root(p, reterr);
        }
        if (r >= 0 && !is_complete(p) && !has_read(p))
                r = prove_rest(p, reterr);
        return r < 0 ? r : conclude(p, reterr);
}

int proof_open_layers(const Context *context, int *layer_fds, int *path_fds, Failure *reterr) {
        const Overlay *o = context->overlay;
        _cleanup_free_ struct stat *st = calloc(o->n_lower + 1, sizeof(struct stat));
        Proof p = {
                .context = context,
                .o = o,
                .layer_fds = layer_fds,
                .path_fds = path_fds,
                .st = st,
                .name = "",
                .fanotify_fd = -EBADF,
        };
        int r;

        for (size_t i = 0; i < o->n_lower; i++)
                layer_fds[i] = path_fds[i] = -EBADF;
        r = st ? run(&p, reterr) : -ENOMEM;
        (void) fd_close(p.fanotify_fd);
        return r;
}
