/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Checks that touch the upper file system: is it the overlay's, and can it do what the kernel and the
 * exchange need. Probes are made in the work directory, which users do not see, with a file that has no
 * name where the file system can do that. What a probe makes it removes at once; users' files are not
 * opened. */
#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

#include "core/check/check-internal.h"

#ifndef FS_CASEFOLD_FL
#define FS_CASEFOLD_FL 0x40000000
#endif

#define SPACE_LOW_PERCENT 5U
#define PROBE_XATTR "trusted.ovlfind.probe"

typedef struct ProbeName {
        char text[64];
} ProbeName;

/* Two checks may run at a time. */
static ProbeName probe_name(const char *suffix) {
        ProbeName n;

        (void) snprintf(n.text, sizeof(n.text), ".ovlfind-probe.%d%s", (int) getpid(), suffix);
        return n;
}

static int probe_create(int dfd, const ProbeName *name) {
        const int flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
        int fd = openat(dfd, name->text, flags, 0600);

        /* Of one that was killed, and had our number. */
        if (fd < 0 && errno == EEXIST && unlinkat(dfd, name->text, 0) >= 0)
                fd = openat(dfd, name->text, flags, 0600);
        return fd < 0 ? -errno : fd;
}

static int probe_open(int dfd) {
        ProbeName name = probe_name("");
        int fd = openat(dfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

        if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
                return fd < 0 ? -errno : fd;
        fd = probe_create(dfd, &name);
        (void) unlinkat(dfd, name.text, 0);
        return fd;
}

static bool same_time(const struct timespec *a, const struct timespec *b) {
        return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/* The root of an overlay shows the times, mode and size of its upper's root. Owners may differ by an
 * idmapped mount. */
static bool same_directory(const struct stat *a, const struct stat *b) {
        return same_time(&a->st_ctim, &b->st_ctim) && same_time(&a->st_mtim, &b->st_mtim) &&
                a->st_mode == b->st_mode && a->st_size == b->st_size;
}

/* And the size of its file system; not f_files, which changes with every file on xfs. */
static bool same_file_system(const struct statfs *a, const struct statfs *b) {
        return a->f_blocks == b->f_blocks && a->f_bsize == b->f_bsize;
}

/* With uuid=on (since Linux 6.6; what "auto" becomes on a new upper) the file system's id is made of a
 * random number that is kept on the upper: both halves of it, exclusive or (uuid_to_fsid()). */
static bool has_other_uuid(const CheckContext *c, const struct statfs *root) {
        const char *xattr = c->o->is_userxattr ? "user.overlay.uuid" : "trusted.overlay.uuid";
        _cleanup_free_ char *mode = NULL;
        uint64_t halves[2], id;

        if (mount_options_next(c->o->fs_options, "uuid", NULL, &mode) <= 0 || strcmp(mode, "on") != 0)
                return false;
        if (fgetxattr(c->upper_fd, xattr, halves, sizeof(halves)) != (ssize_t) sizeof(halves))
                return errno == ENODATA;
        id = halves[0] ^ halves[1];
        return memcmp(&id, &root->f_fsid, sizeof(id)) != 0;
}

/* 1 if nothing speaks against it, 0 if it is another directory. */
static int is_our_upper(const CheckContext *c) {
        struct statfs root_fs, upper_fs;
        struct stat root, upper;

        if (fstatfs(c->root_fd, &root_fs) < 0 || fstatfs(c->upper_fd, &upper_fs) < 0)
                return -errno;
        if (!same_file_system(&root_fs, &upper_fs) || has_other_uuid(c, &root_fs))
                return 0;
        /* Somebody may create a file in between; not three times in a row. */
        for (unsigned tries = 0; tries < 3; tries++) {
                if (fstat(c->root_fd, &root) < 0 || fstat(c->upper_fd, &upper) < 0)
                        return -errno;
                if (same_directory(&root, &upper))
                        return 1;
        }
        return 0;
}

static int say_moved(const CheckContext *c, Check *f) {
        return check_say(f, CHECK_FAIL, "another file system is mounted at '%s' now", c->o->mount_point)
                ?: check_advise(f, "try again");
}

static int say_other_upper(const CheckContext *c, Check *f) {
        return check_say(
                       f, CHECK_FAIL,
                       "'%s' is not the upper layer of '%s': it was moved or mounted over since, or belongs "
                       "to another mount namespace",
                       c->o->upper, c->o->mount_point)
                ?: check_advise(
                           f,
                           "set UpperDir= and WorkDir= in its configuration to where the layers are seen "
                           "now");
}

int check_upper_path(const CheckContext *c, Check *f) {
        struct stat st;
        int r;

        if (!c->o->upper)
                return 0;
        if (c->root_fd < 0)
                return check_cannot_tell(f, -c->root_fd, "open the overlay's root");
        if (fstat(c->root_fd, &st) < 0)
                return check_cannot_tell(f, errno, "look at the overlay's root");
        if (st.st_dev != c->o->device)
                return say_moved(c, f);
        if (c->upper_fd == -ENOENT || c->upper_fd == -ENOTDIR)
                return say_other_upper(c, f);
        if (c->upper_fd < 0)
                return check_cannot_tell(f, -c->upper_fd, "open the upper layer");
        r = is_our_upper(c);
        if (r < 0)
                return check_cannot_tell(f, -r, "compare the upper layer with the overlay");
        return r == 0 ? say_other_upper(c, f)
                      : check_say(f, CHECK_OK, "'%s' is the upper layer", c->o->upper);
}

/* Subvolumes of btrfs have device numbers of their own, but no mounts. */
static bool is_on_one_mount(const CheckContext *c, const char *a, const char *b) {
        const MountEntry *x = mount_table_reach(&c->table, a), *y = mount_table_reach(&c->table, b);

        return x && x == y;
}

int check_work_path(const CheckContext *c, Check *f) {
        struct stat work, upper;

        if (!c->o->work || c->upper_fd < 0)
                return 0;
        if (c->work_fd < 0)
                return check_cannot_tell(f, -c->work_fd, "open the work directory");
        if (fstat(c->work_fd, &work) < 0 || fstat(c->upper_fd, &upper) < 0)
                return check_cannot_tell(f, errno, "look at the work directory");
        if (work.st_dev == upper.st_dev || is_on_one_mount(c, c->o->work, c->o->upper))
                return check_say(
                        f, CHECK_OK, "'%s' is on the same file system as the upper layer", c->o->work);
        return check_say(
                       f, CHECK_FAIL,
                       "'%s' is not on the file system of the upper layer, so it is not the work directory",
                       c->o->work)
                ?: check_advise(f, "set WorkDir= in its configuration");
}

int check_trusted_xattr(const CheckContext *c, Check *f) {
        _cleanup_close_ int fd = -EBADF;

        if (c->work_fd < 0)
                return 0;
        fd = probe_open(c->work_fd);
        if (fd < 0)
                return check_cannot_tell(f, -fd, "create a file in the work directory");
        if (fsetxattr(fd, PROBE_XATTR, "y", 1, 0) >= 0)
                return check_say(f, CHECK_OK, "the upper file system keeps trusted xattrs");
        if (errno != EOPNOTSUPP)
                return check_cannot_tell(f, errno, "set a trusted xattr on the upper file system");
        return check_say(f, CHECK_FAIL, "the upper file system keeps no trusted xattrs")
                ?: check_advise(f, "put the upper layer on ext4, xfs, btrfs or tmpfs with xattrs enabled");
}

int check_tmpfile(const CheckContext *c, Check *f) {
        _cleanup_close_ int fd = -EBADF;

        if (c->work_fd < 0)
                return 0;
        fd = openat(c->work_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (fd >= 0)
                return check_say(f, CHECK_OK, "the upper file system knows O_TMPFILE");
        if (errno != EOPNOTSUPP && errno != EISDIR)
                return check_cannot_tell(f, errno, "create a file in the work directory");
        return check_say(
                       f, CHECK_WARNING,
                       "the upper file system knows no O_TMPFILE: copying up goes one file at a time")
                ?: check_advise(f, "put the upper layer on ext4, xfs, btrfs or tmpfs");
}

/* Every work directory holds at least the directory "work", besides "." and "..", which some file systems
 * make up. */
int check_d_type(const CheckContext *c, Check *f) {
        _cleanup_closedir_ DIR *d = NULL;
        struct dirent *e;
        int fd;

        if (c->work_fd < 0)
                return 0;
        fd = openat(c->work_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        d = fd >= 0 ? fdopendir(fd) : NULL;
        if (!d)
                return check_cannot_tell(f, errno, "list the work directory");
        while ((e = readdir(d)))
                if (e->d_type == DT_UNKNOWN)
                        return check_say(
                                       f, CHECK_FAIL,
                                       "the upper file system gives no types of entries: whiteouts would "
                                       "show")
                                ?: check_advise(
                                           f,
                                           "make the file system anew: mkfs.xfs -n ftype=1, mkfs.ext4 -O "
                                           "filetype");
        return check_say(f, CHECK_OK, "the upper file system gives types of entries");
}

static int probe_whiteout(int dfd) {
        ProbeName from = probe_name("a"), to = probe_name("b");
        int fd = probe_create(dfd, &from), r = 0;

        if (fd < 0)
                return fd;
        (void) fd_close(fd);
        if (renameat2(dfd, from.text, dfd, to.text, RENAME_WHITEOUT) < 0)
                r = -errno;
        (void) unlinkat(dfd, from.text, 0);
        (void) unlinkat(dfd, to.text, 0);
        return r;
}

int check_rename_whiteout(const CheckContext *c, Check *f) {
        int r;

        if (c->work_fd < 0)
                return 0;
        r = probe_whiteout(c->work_fd);
        if (r >= 0)
                return check_say(f, CHECK_OK, "the upper file system knows RENAME_WHITEOUT");
        if (r != -EINVAL && r != -EOPNOTSUPP)
                return check_cannot_tell(f, -r, "try RENAME_WHITEOUT in the work directory");
        return check_say(
                       f, CHECK_FAIL,
                       "the upper file system knows no RENAME_WHITEOUT: renames of lower entries fail")
                ?: check_advise(f, "put the upper layer on ext4, xfs, btrfs or tmpfs");
}

int check_casefold(const CheckContext *c, Check *f) {
        unsigned flags = 0;

        if (c->upper_fd < 0)
                return 0;
        if (ioctl(c->upper_fd, FS_IOC_GETFLAGS, &flags) < 0 || (flags & FS_CASEFOLD_FL) == 0)
                return check_say(f, CHECK_OK, "names in the upper layer are case-sensitive");
        return check_say(
                       f, CHECK_FAIL,
                       "the upper layer folds case: one name may stand for several lower ones")
                ?: check_advise(f, "put the upper layer in a directory without it (chattr -F)");
}

static int say_share(Check *f, const char *what, uint64_t available, uint64_t total, const CheckContext *c) {
        unsigned percent = (unsigned) ((double) available * 100 / (double) total);

        if (percent >= SPACE_LOW_PERCENT)
                return check_say(
                        f, CHECK_OK, "%u %% of the %s of the upper file system are free", percent, what);
        return check_say(
                       f, CHECK_WARNING, "only %u %% of the %s of the upper file system are free", percent,
                       what)
                ?: check_advise(f, "make room on the file system of '%s'", c->o->upper);
}

int check_space(const CheckContext *c, Check *f) {
        struct statvfs st;

        if (c->upper_fd < 0 || fstatvfs(c->upper_fd, &st) < 0 || st.f_blocks == 0)
                return 0;
        return say_share(f, "space", st.f_bavail, st.f_blocks, c);
}

/* btrfs has no fixed number of inodes and says 0. */
int check_inodes(const CheckContext *c, Check *f) {
        struct statvfs st;

        if (c->upper_fd < 0 || fstatvfs(c->upper_fd, &st) < 0 || st.f_files == 0)
                return 0;
        return say_share(f, "inodes", st.f_favail, st.f_files, c);
}
