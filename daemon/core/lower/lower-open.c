/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opens the layers and their merged view, which the kernel itself makes: an overlay of the lower layers
 * alone, mounted nowhere. It compares and judges nothing. Invariant: nothing is given out that is not
 * proved to be what the overlay itself reads (proof.h), with the owners that the overlay shows. */
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <pthread.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/vfs.h>

#include "base/fs-util.h"
#include "base/lock.h"
#include "core/lower/lower.h"
#include "core/lower/proof-data.h"
#include "core/lower/proof.h"
#include "core/mount/mount-clone.h"
#include "core/upper/layer.h"

#define FSCONFIG_VALUE_MAX 255 /* of a string; the kernel refuses longer ones */
#define OWNERS_MAX 256U        /* of all layers together */

struct LowerView {
        pthread_mutex_t lock;
        const Context *context;
        enum { DATA_UNKNOWN, DATA_PROVED, DATA_UNPROVED } data;
        size_t n; /* owners of which it is known that the view shows them as the overlay does */
        struct {
                size_t layer;
                uid_t uid;
                gid_t gid;
        } items[OWNERS_MAX];
};

/* Handles of FUSE are numbers of the running server (docs/overlayfs.md 9.2), given anew whenever the kernel
 * has forgotten an inode; its change times are whatever the server makes of them (that of sshfs is the
 * modification time). */
static bool has_lasting_handles(int fd) {
        struct statfs sfs;

        return fstatfs(fd, &sfs) >= 0 && sfs.f_type != FUSE_SUPER_MAGIC;
}

static int allocate(Lower *l, const Overlay *o) {
        l->layer_fds = calloc(o->n_lower + 1, sizeof(int));
        l->path_fds = calloc(o->n_lower + 1, sizeof(int));
        l->has_handles = calloc(o->n_lower + 1, sizeof(bool));
        l->data_fds = calloc(o->n_data + 1, sizeof(int));
        if (!l->layer_fds || !l->path_fds || !l->has_handles || !l->data_fds)
                return -ENOMEM;
        l->n_layers = o->n_lower;
        l->n_data = o->n_data;
        for (size_t i = 0; i < l->n_layers; i++)
                l->layer_fds[i] = l->path_fds[i] = -EBADF;
        for (size_t i = 0; i < l->n_data; i++)
                l->data_fds[i] = -EBADF;
        return 0;
}

static int open_given(const char *path, int *ret_fd, Failure *reterr) {
        int fd = mount_clone_open(path, O_PATH);

        if (fd < 0)
                return failure_set(
                        reterr, FAILURE_LOWER_UNREACHABLE, -fd,
                        "cannot open the lower layer '%s': %s; is it mounted?", path, strerror(-fd));
        *ret_fd = fd;
        return 0;
}

static int open_all_given(const Lower *l, const Overlay *o, Failure *reterr) {
        int r = 0;

        for (size_t i = 0; i < l->n_layers && r >= 0; i++) {
                r = open_given(o->lower[i], l->path_fds + i, reterr);
                if (r >= 0)
                        r = l->layer_fds[i] = fcntl(l->path_fds[i], F_DUPFD_CLOEXEC, 3);
        }
        return r < 0 ? r : 0;
}

static void look_at_layers(Lower *l) {
        l->has_ctime = true;
        for (size_t i = 0; i < l->n_layers; i++) {
                l->has_handles[i] = has_lasting_handles(l->layer_fds[i]);
                l->has_ctime &= l->has_handles[i];
        }
}

/* Paths through /proc need no escaping and are short. */
static size_t
append_layers(char *value, size_t size, size_t n, const char *separator, int *fds, size_t n_fds) {
        for (size_t i = 0; i < n_fds && n < size; i++)
                n += (size_t) snprintf(
                        value + n, size - n, "%s/proc/self/fd/%d", n > 0 ? separator : "", fds[i]);
        return n;
}

static int add_layers(int fs_fd, const char *key, const int *fds, size_t n) { /* since Linux 6.7 */
        char layer[PROC_FD_MAX];

        for (size_t i = 0; i < n; i++) {
                proc_fd_path(layer, fds[i], "");
                if (fsconfig(fs_fd, FSCONFIG_SET_STRING, key, layer, 0) < 0)
                        return -errno;
        }
        return 0;
}

/* An overlay without an upper wants two layers: an empty directory that no path leads to. */
static int make_empty(void) {
        _cleanup_close_ int fs_fd = fsopen("tmpfs", FSOPEN_CLOEXEC);
        int fd;

        if (fs_fd < 0 || fsconfig(fs_fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                return -errno;
        fd = fsmount(fs_fd, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY);
        return fd < 0 ? -errno : fd;
}

static int set_layers(const Lower *l, size_t n_layers, int fs_fd) {
        char value[FSCONFIG_VALUE_MAX + 1];
        size_t n = append_layers(value, sizeof(value), 0, ":", l->path_fds, n_layers);
        int r;

        n = append_layers(value, sizeof(value), n, "::", l->data_fds, l->n_data);
        if (n < sizeof(value))
                return fsconfig(fs_fd, FSCONFIG_SET_STRING, "lowerdir", value, 0) < 0 ? -errno : 0;
        r = add_layers(fs_fd, "lowerdir+", l->path_fds, n_layers);
        return r < 0 ? r : add_layers(fs_fd, "datadir+", l->data_fds, l->n_data);
}

/* Inode numbers are to be those of the layers. */
static int mount_layers(Lower *l, size_t n_layers) {
        _cleanup_close_ int fs_fd = fsopen("overlay", FSOPEN_CLOEXEC);
        int r;

        if (fs_fd < 0)
                return -errno;
        r = set_layers(l, n_layers, fs_fd);
        if (r < 0)
                return r;
        if (fsconfig(fs_fd, FSCONFIG_SET_STRING, "redirect_dir", "on", 0) < 0 ||
            fsconfig(fs_fd, FSCONFIG_SET_STRING, "metacopy", "on", 0) < 0 ||
            fsconfig(fs_fd, FSCONFIG_SET_STRING, "xino", "off", 0) < 0 ||
            fsconfig(fs_fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                return -errno;
        l->view_fd = fsmount(fs_fd, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY);
        return l->view_fd < 0 ? -errno : 0;
}

static int mount_view(Lower *l) {
        size_t n = l->n_layers;
        int r;

        if (n + l->n_data > 1)
                return mount_layers(l, n);
        l->path_fds[n] = make_empty();
        r = l->path_fds[n] < 0 ? l->path_fds[n] : mount_layers(l, n + 1);
        l->path_fds[n] = fd_close(l->path_fds[n]);
        return r;
}

/* Puts the mount that is attached at path in the place of our clone of it. */
static int attach(const char *path, int *fd) {
        _cleanup_close_ int attached = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        struct stat is, should;

        if (attached < 0 || fstat(attached, &is) < 0 || fstat(*fd, &should) < 0)
                return -errno;
        if (is.st_dev != should.st_dev || is.st_ino != should.st_ino)
                return -ESTALE;
        (void) fd_close(*fd);
        *fd = TAKE_FD(attached);
        return 0;
}

static int attach_all(const Lower *l, const Overlay *o) {
        int r = 0;

        for (size_t i = 0; i < l->n_layers && r >= 0; i++)
                r = attach(o->lower[i], l->path_fds + i);
        for (size_t i = 0; i < l->n_data && r >= 0; i++)
                r = attach(o->data[i], l->data_fds + i);
        return r;
}

static int detach(int *fds, size_t n) {
        for (size_t i = 0; i < n; i++) {
                int fd = mount_clone_fd(fds[i], O_PATH);

                if (fd < 0)
                        return fd;
                (void) fd_close(fds[i]);
                fds[i] = fd;
        }
        return 0;
}

/* Kernels before 6.15 make no overlay of mounts that are attached nowhere (docs/overlayfs.md 7.7). Those
 * that are cannot be unmounted while the view is made, and no longer: it has mounts of its own. */
static int make_view(Lower *l, const Overlay *o) {
        int r = attach_all(l, o);

        if (r >= 0)
                r = mount_view(l);
        if (r >= 0)
                r = detach(l->path_fds, l->n_layers);
        return r < 0 ? r : detach(l->data_fds, l->n_data);
}

/* Of a layer that is the only one the kernel reads neither redirects nor opaque directories
 * (ovl_lookup_single(), d->last), only whiteouts. Those that are xattrs it reads in a layer whose root says
 * so, since Linux 6.7 (docs/overlayfs.md 1.7). 1, 0, or an error. */
static int is_plain(const Lower *l) {
        _cleanup_free_ char *opaque = NULL;
        ssize_t n;

        if (l->n_layers != 1 || l->n_data > 0)
                return 0;
        n = xattr_read_fd(l->layer_fds[0], XATTR_OPAQUE, &opaque);
        if (n < 0)
                return n == -ENODATA || n == -EOPNOTSUPP ? 1 : (int) n;
        return n != 1 || opaque[0] != 'x';
}

static bool is_same_owner(const struct stat *a, const struct stat *b) {
        return a->st_uid == b->st_uid && a->st_gid == b->st_gid;
}

static bool is_known_owner(const Lower *l, size_t layer, const struct stat *st) {
        bool found = false;

        LOCKED(&l->view->lock);

        for (size_t i = 0; i < l->view->n && !found; i++)
                found = l->view->items[i].layer == layer && l->view->items[i].uid == st->st_uid &&
                        l->view->items[i].gid == st->st_gid;
        return found;
}

static void learn_owner(const Lower *l, size_t layer, const struct stat *st) {
        LOCKED(&l->view->lock);

        if (l->view->n < OWNERS_MAX) {
                l->view->items[l->view->n].layer = layer;
                l->view->items[l->view->n].uid = st->st_uid;
                l->view->items[l->view->n++].gid = st->st_gid;
        }
}

static int stat_in(int dfd, const char *path, struct stat *ret) {
        _cleanup_close_ int fd = open_beneath(dfd, path, O_PATH | O_NOFOLLOW);

        return fd < 0 ? fd : fstat(fd, ret) < 0 ? -errno : 0;
}

/* Each layer is seen by the mount of its path, of which the view is made, and by that of the overlay: ours,
 * of path, is what the former shows. */
static bool is_mapped_alike(const Lower *l, size_t i, const char *path, const struct stat *ours) {
        struct stat theirs;

        if (is_known_owner(l, i, ours))
                return true;
        if (stat_in(l->layer_fds[i], path, &theirs) < 0 || !is_same_owner(ours, &theirs))
                return false;
        learn_owner(l, i, ours);
        return true;
}

static int check_maps(const Lower *l, const Overlay *o, Failure *reterr) {
        struct stat ours;

        for (size_t i = 0; i < l->n_layers; i++)
                if (stat_in(l->path_fds[i], "", &ours) < 0 || !is_mapped_alike(l, i, "", &ours))
                        return failure_set(
                                reterr, FAILURE_LOWER_UNPROVED, EREMCHG,
                                "it is not proved that '%s' shows the lower layer of '%s' as the overlay "
                                "does: the mount has another id map; set LowerDir= in its configuration to "
                                "where the layer is seen with the same one",
                                o->lower[i], o->mount_point);
        return 0;
}

/* The kernel itself says what its merged view is: whiteouts, redirects, opaque directories, data that is in
 * other layers. */
static int open_view(Lower *l, const Context *context, Failure *reterr) {
        const Overlay *o = context->overlay;
        int r = is_plain(l);

        if (r < 0)
                return r;
        if (r > 0) {
                l->view_fd = fcntl(l->layer_fds[0], F_DUPFD_CLOEXEC, 3);
                l->path_fds[0] = fd_close(l->path_fds[0]);
                return l->view_fd < 0 ? -errno : 0;
        }
        l->view = calloc(1, sizeof(*l->view));
        if (!l->view)
                return -ENOMEM;
        (void) pthread_mutex_init(&l->view->lock, NULL);
        l->view->context = context;
        for (size_t i = 0; i < l->n_data; i++) {
                r = open_given(o->data[i], l->data_fds + i, reterr);
                if (r < 0)
                        return r;
        }
        r = check_maps(l, o, reterr);
        if (r < 0)
                return r;
        r = make_view(l, o);
        return r < 0 ? failure_set(
                               reterr, FAILURE_PRECONDITION, -r,
                               "cannot see the lower layers of '%s' as the kernel merges them: %s",
                               o->mount_point, strerror(-r))
                     : 0;
}

static int open_lower(Lower *l, const Context *context, bool is_given, Failure *reterr) {
        const Overlay *o = context->overlay;
        int r = allocate(l, o);

        if (r >= 0)
                r = is_given ? open_all_given(l, o, reterr)
                             : proof_open_layers(context, l->layer_fds, l->path_fds, reterr);
        if (r < 0)
                return r;
        look_at_layers(l);
        return open_view(l, context, reterr);
}

static int open_or_done(const Context *context, bool is_given, Lower *ret, Failure *reterr) {
        _cleanup_(lower_done) Lower l = LOWER_INIT;
        int r = open_lower(&l, context, is_given, reterr);

        if (r < 0)
                return failure_set_errno(
                        reterr, r, "cannot look at the lower layers of '%s'", context->overlay->mount_point);
        *ret = TAKE_AS(l, LOWER_INIT);
        return 0;
}

int lower_open(const Context *context, Lower *ret, Failure *reterr) {
        return open_or_done(context, /* is_given= */ false, ret, reterr);
}

int lower_open_for_record(Context *context, Lower *ret) {
        _cleanup_failure_ Failure f = FAILURE_INIT;
        int r = lower_open(context, ret, &f);

        if (f.kind == FAILURE_LOWER_UNPROVED && !context->is_unproved_noted) {
                context->is_unproved_noted = true;
                context_note(context, "", "what the lower layers hold is not recorded: %s", f.message ?: "");
        }
        return r;
}

int lower_open_given(const Context *context, Lower *ret, Failure *reterr) {
        return open_or_done(context, /* is_given= */ true, ret, reterr);
}

void lower_done(Lower *l) {
        for (size_t i = 0; i < l->n_layers; i++) {
                (void) fd_close(l->layer_fds[i]);
                (void) fd_close(l->path_fds[i]);
        }
        for (size_t i = 0; i < l->n_data; i++)
                (void) fd_close(l->data_fds[i]);
        free(l->layer_fds);
        free(l->path_fds);
        free(l->has_handles);
        free(l->data_fds);
        if (l->view)
                (void) pthread_mutex_destroy(&l->view->lock);
        free(l->view);
        (void) fd_close(l->view_fd);
        *l = LOWER_INIT;
}

/* What a redirect of a layer leads to has another path there. The overlay itself shows its owner, too. */
static int check_redirected_owner(const Lower *l, const char *path, const struct stat *st) {
        struct stat shown;
        size_t i = 0;

        while (i < l->n_layers && is_known_owner(l, i, st))
                i++;
        if (i == l->n_layers)
                return 0;
        return stat_in(l->view->context->root_fd, path, &shown) >= 0 && is_same_owner(st, &shown) ? 0
                                                                                                  : -EREMCHG;
}

/* Inode numbers of directories may be those of the view. */
int lower_check_owner(const Lower *l, const char *path, const struct stat *st) {
        struct stat ours;

        if (!l->view)
                return 0;
        for (size_t i = 0; i < l->n_layers; i++) {
                if (stat_in(l->path_fds[i], path, &ours) < 0)
                        continue;
                if (!is_mapped_alike(l, i, path, &ours))
                        return -EREMCHG;
                if (is_same_owner(&ours, st) && (S_ISDIR(st->st_mode) || ours.st_ino == st->st_ino))
                        return 0;
        }
        return check_redirected_owner(l, path, st);
}

int lower_prove_data(const Lower *l) {
        int r = 0;

        if (l->n_data == 0)
                return 0;
        LOCKED(&l->view->lock);
        if (l->view->data == DATA_UNKNOWN)
                r = proof_data_layers(l->view->context, l);
        if (l->view->data == DATA_UNKNOWN && (r == 0 || r == -EREMCHG))
                l->view->data = r == 0 ? DATA_PROVED : DATA_UNPROVED;
        if (l->view->data == DATA_UNPROVED)
                r = -EREMCHG;
        return r;
}

/* A plain layer is read as it is, so what the kernel would refuse is to be looked for. */
int lower_open_file(const Lower *l, const char *path, int flags) {
        _cleanup_close_ int fd = open_beneath(l->view_fd, path, O_RDONLY | O_NOFOLLOW | flags);
        _cleanup_free_ char *metacopy = NULL;
        struct stat st;
        int r;

        if (fd < 0 && (fd != -ENOENT || l->n_data == 0 || lower_stat(l, path, &st) < 0))
                return fd;
        r = l->n_data > 0 ? lower_prove_data(l) : 0;
        if (r >= 0)
                r = fd < 0 ? -EIO : proof_data_of_file(l, path, fd);
        if (r < 0)
                return r;
        if (!l->view && xattr_read_fd(fd, XATTR_METACOPY, &metacopy) >= 0)
                return -EIO;
        return TAKE_FD(fd);
}
