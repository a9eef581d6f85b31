/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/job/offline.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "base/strv.h"
#include "core/record/manifest.h"
#include "core/record/tree.h"
#include "core/upper/layer.h"

#define HOLDER_PREFIX ".ovlfind-offline-" /* + name of the upper */
#define PROBES 100
#define PROBE_MSEC 50

static int check_lower(char *const *layers, Failure *reterr) {
        for (char *const *l = layers; *l; l++) {
                _cleanup_close_ int fd = open(*l, O_PATH | O_DIRECTORY | O_CLOEXEC);

                if (fd < 0)
                        return failure_set(
                                reterr, FAILURE_LOWER_UNREACHABLE, errno,
                                "cannot open the lower layer '%s': %s; it must be there, as it is when the "
                                "overlay is mounted",
                                *l, strerror(errno));
        }
        return 0;
}

/* With index=on the kernel ties the upper to its lower layer and to its work directory, by an origin on the
 * root (ovl_verify_set_fh(); docs/overlayfs.md 9.4): changes without that index would contradict it. */
static int check_upper(const char *upper, Failure *reterr) {
        ssize_t n = getxattr(upper, XATTR_ORIGIN, NULL, 0);

        if (n >= 0)
                return failure_set(
                        reterr, FAILURE_PRECONDITION, EOPNOTSUPP,
                        "'%s' belongs to an overlay with index=on; mount that and finalize without "
                        "--offline",
                        upper);
        return errno == ENODATA ? 0 : failure_set_errno(reterr, -errno, "cannot read '%s'", upper);
}

static int make_directory(const char *parent, const char *name, char **ret) {
        *ret = path_join(parent, name);
        if (!*ret)
                return -ENOMEM;
        return mkdir(*ret, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

/* Beside the upper, because the kernel wants upper and work directory on one mount. The name is always the
 * same, so that a second job meets the lock of the first. */
static int open_holder(Offline *o, const char *upper, Failure *reterr) {
        _cleanup_free_ char *parent = path_dirname(upper),
                            *name = str_format(HOLDER_PREFIX "%s", path_basename(upper));
        struct stat st;
        int r;

        if (!parent || !name)
                return -ENOMEM;
        r = make_directory(parent[0] ? parent : "/", name, &o->holder);
        if (r < 0)
                return failure_set_errno(reterr, r, "cannot make a directory beside '%s'", upper);
        o->lock_fd = open(o->holder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (o->lock_fd < 0 || fstat(o->lock_fd, &st) < 0)
                return failure_set_errno(reterr, -errno, "cannot open '%s'", o->holder);
        if (st.st_uid != 0 || (st.st_mode & 07777) != 0700)
                return failure_set(
                        reterr, FAILURE_PRECONDITION, EPERM,
                        "'%s' is not ours (it must belong to root with mode 0700); rename or remove it",
                        o->holder);
        if (flock(o->lock_fd, LOCK_EX | LOCK_NB) < 0)
                return failure_set(
                        reterr, FAILURE_BUSY, EBUSY,
                        "another ovlfinctl --offline works on '%s'; wait for it", upper);
        r = make_directory(o->holder, "work", &o->work);
        return r < 0 ? r : make_directory(o->holder, "mount", &o->mount_point);
}

static int enter_namespace(void) {
        if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                return -errno;
        return 0;
}

static int try_mount(const Overlay *layers, const char *point, const char *more) {
        _cleanup_free_ char *all = overlay_format_options(layers),
                            *options = all ? str_format("%s%s", all, more) : NULL;

        if (!options)
                return -ENOMEM;
        return mount("overlay", point, "overlay", 0, options) < 0 ? -errno : 0;
}

/* Whether an overlay uses the upper, wherever it is mounted, or detached: with index=on the kernel refuses
 * an upper in use (EBUSY) before it looks at the work directory, which is none here, on another mount
 * (EINVAL; docs/overlayfs.md 7.2). So nothing comes of it but the answer. What has just been unmounted lives
 * on for a moment, as whoever looked at it lets go of it. */
static int probe_use(const Overlay *layers, const char *point, Failure *reterr) {
        Overlay probe = *layers;
        int r;

        probe.work = (char *) point;
        if (mount("none", point, "tmpfs", 0, "size=64k,mode=700") < 0)
                return -errno;
        for (unsigned i = 0; (r = try_mount(&probe, point, ",index=on")) == -EBUSY && i < PROBES; i++)
                (void) poll(NULL, 0, PROBE_MSEC);
        (void) umount2(point, MNT_DETACH);
        if (r == -EINVAL)
                return 0;
        if (r == -EBUSY)
                return failure_set(
                        reterr, FAILURE_BUSY, EBUSY,
                        "'%s' is in use by a mounted overlay (or a lower layer is, as an upper); finalize "
                        "without --offline, or unmount it first",
                        layers->upper);
        return r < 0 ? r : -ENOTRECOVERABLE;
}

static int mount_layers(Offline *o, const Overlay *layers, Failure *reterr) {
        int r = enter_namespace();

        if (r >= 0)
                r = probe_use(layers, o->mount_point, reterr);
        if (r >= 0)
                r = try_mount(layers, o->mount_point, ",index=off,nfs_export=off");
        o->is_mounted = r >= 0;
        return r;
}

int offline_mount(const char *upper, const char *lower, Offline *ret, Failure *reterr) {
        _cleanup_(offline_done) Offline o = OFFLINE_INIT;
        _cleanup_strv_free_ char **layers_lower = NULL, **data = NULL;
        int r = overlay_split_lowerdir(lower, &layers_lower, &data);
        Overlay layers = { .upper = (char *) upper, .lower = layers_lower, .data = data };

        if (r < 0)
                return failure_set_errno(reterr, r, "cannot read the lower layers '%s'", lower);
        r = check_lower(layers.lower, reterr);
        if (r >= 0)
                r = check_upper(upper, reterr);
        if (r >= 0)
                r = open_holder(&o, upper, reterr);
        layers.work = o.work;
        if (r >= 0)
                r = mount_layers(&o, &layers, reterr);
        if (r < 0)
                return failure_set_errno(
                        reterr, r, "cannot mount the overlay of '%s'; the kernel log says more", upper);
        *ret = TAKE_AS(o, OFFLINE_INIT);
        return 0;
}

int offline_unmount(Offline *o, const Overlay *layers, Failure *reterr) {
        if (o->is_mounted && umount2(o->mount_point, UMOUNT_NOFOLLOW) < 0)
                return failure_set_errno(reterr, -errno, "cannot unmount '%s'", o->mount_point);
        o->is_mounted = false;
        return probe_use(layers, o->mount_point, reterr);
}

static void remove_parts(const Offline *o) {
        _cleanup_close_ int fd = open_dir_beneath(o->lock_fd, "work");

        if (fd >= 0)
                (void) dir_empty(fd);
        (void) unlinkat(o->lock_fd, "work", AT_REMOVEDIR);
        (void) unlinkat(o->lock_fd, "mount", AT_REMOVEDIR);
        (void) rmdir(o->holder);
}

void offline_done(Offline *o) {
        if (o->is_mounted && umount2(o->mount_point, UMOUNT_NOFOLLOW) < 0)
                (void) umount2(o->mount_point, UMOUNT_NOFOLLOW | MNT_DETACH);
        if (o->lock_fd >= 0)
                remove_parts(o);
        (void) fd_close(o->lock_fd);
        free(o->mount_point);
        free(o->work);
        free(o->holder);
        *o = OFFLINE_INIT;
}

typedef struct Search {
        int upper_fd;
        char *found;
} Search;

static int any_record(const Tree *t, void *userdata) {
        return -EEXIST;
}

static int look_in(int dfd, const char *name, unsigned char type, void *userdata) {
        _cleanup_close_ int fd = type == DT_DIR ? open_dir_beneath(dfd, name) : -ENOTDIR;
        _cleanup_(records_freep) Records *records = NULL;
        Search *s = userdata;

        if (s->found || fd < 0 || records_load(fd, s->upper_fd, &records) < 0)
                return 0;
        if (records_foreach(records, any_record, NULL) == -EEXIST)
                s->found = strdup(name);
        return 0;
}

int offline_records_name(const char *state_dir, const char *upper, char **ret) {
        _cleanup_free_ char *path = path_join(state_dir, "records");
        _cleanup_close_ int fd = path ? mkdir_open(path) : -ENOMEM,
                            upper_fd = open(upper, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        Search s = { .upper_fd = upper_fd };
        int r = fd < 0 ? fd : upper_fd < 0 ? -errno : dir_foreach(fd, look_in, &s);

        if (r < 0)
                return r;
        *ret = s.found ?: records_default_name(upper);
        return *ret ? 0 : -ENOMEM;
}
