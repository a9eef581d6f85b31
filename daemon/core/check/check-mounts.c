/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Checks that compare the overlay with other mounts, in all mount namespaces: who else has its upper layer,
 * who else shows it, what its lower layers stand on. Mount tables and /proc are read, and the upper layer
 * is compared by its inode. No lower layer is asked, for it may hang. */
#include <fcntl.h>
#include <limits.h>
#include <linux/nsfs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/path-util.h"
#include "base/str.h"
#include "core/check/check-internal.h"

/* By the mount table, without following symlinks: asking a lower layer could hang. */
static bool is_on_one_file_system(const CheckContext *c) {
        const MountEntry *upper = c->o->upper ? mount_table_reach(&c->table, c->o->upper) : NULL;

        if (!upper)
                return false;
        for (char **s = c->o->lower; *s; s++) {
                const MountEntry *lower = mount_table_reach(&c->table, *s);

                if (!lower || lower->device != upper->device)
                        return false;
        }
        return true;
}

/* Reading a finalized directory looks every entry up below to find its inode number (docs/overlayfs.md 4.7).
 */
int check_xino(const CheckContext *c, Check *f) {
        if (is_on_one_file_system(c))
                return check_say(
                        f, CHECK_OK,
                        "all layers are on one file system, so inode numbers are those of the layers");
        if (c->o->xino == TRI_NO)
                return check_say(f, CHECK_OK, "xino is off");
        return check_say(
                       f, CHECK_WARNING,
                       "xino is %s: the first listing of a finalized directory looks every entry up below",
                       c->o->xino == TRI_YES ? "on" : "not known to be off")
                ?: check_advise(
                           f,
                           "mount with xino=off, unless programs depend on inode numbers that never change");
}

int check_nested_lower(const CheckContext *c, Check *f) {
        for (char **s = c->o->lower; *s; s++) {
                const MountEntry *e = mount_table_reach(&c->table, *s);

                if (e && strcmp(e->type, "overlay") == 0)
                        return check_say(
                                       f, CHECK_WARNING,
                                       "the lower layer '%s' is on an overlay itself (%s): what is mounted "
                                       "in it cannot be copied up",
                                       *s, e->target)
                                ?: check_advise(
                                           f, "name the layers of that overlay as lower layers of this one");
        }
        return check_say(f, CHECK_OK, "no lower layer is an overlay itself");
}

/* -ENODATA where it cannot be found out. */
static int mount_namespace_is_ours(const char *proc) {
        _cleanup_free_ char *mnt_path = path_join(proc, "self/ns/mnt"),
                            *user_path = path_join(proc, "self/ns/user");
        _cleanup_close_ int mnt = -EBADF, owner = -EBADF;
        struct stat a, b;

        if (!mnt_path || !user_path)
                return -ENOMEM;
        mnt = open(mnt_path, O_RDONLY | O_CLOEXEC);
        if (mnt < 0 || stat(user_path, &a) < 0)
                return -ENODATA;
        owner = ioctl(mnt, NS_GET_USERNS);
        if (owner < 0)
                return errno == EPERM ? 0 : -ENODATA; /* EPERM: outside of what we may see */
        if (fstat(owner, &b) < 0)
                return -ENODATA;
        return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

int check_user_namespace(const CheckContext *c, Check *f) {
        int r = mount_namespace_is_ours(c->proc);

        if (r == -ENODATA)
                return 0;
        if (r < 0)
                return r;
        if (r > 0)
                return check_say(f, CHECK_OK, "mounts and processes here belong to one user namespace");
        return check_say(f, CHECK_FAIL, "the mount belongs to another user namespace")
                ?: check_advise(f, "run ovlfind in the user namespace in which the overlay was mounted");
}

static bool resolve(const char *root, const char *path, struct stat *ret) {
        _cleanup_free_ char *joined = path_join(root, path_startswith(path, "/"));

        return joined && fstatat(AT_FDCWD, joined, ret, AT_NO_AUTOMOUNT) == 0;
}

/* The table shows the path as whoever mounted it saw it: the path may hold in the namespace it is listed in,
 * or (a container's overlay, mounted before its root was changed) in ours. */
static bool is_same_upper(const CheckContext *c, const char *path, pid_t pid) {
        _cleanup_free_ char *root = NULL;
        struct stat ours, st;

        if (path[0] != '/')
                return false;
        root = str_format("%s/%d/root", c->proc, (int) pid);
        if (!root)
                return false;
        if (c->upper_fd < 0 || fstat(c->upper_fd, &ours) < 0 ||
            (!resolve(root, path, &st) && !resolve("/", path, &st)))
                return strcmp(path, c->o->upper) == 0;
        return st.st_dev == ours.st_dev && st.st_ino == ours.st_ino;
}

/* Escapes stand in the path unless the layer was given as a descriptor, which the table does not tell. */
static bool has_our_upper(const CheckContext *c, const MountEntry *e, pid_t pid) {
        _cleanup_free_ char *path = NULL;

        if (mount_options_next(e->fs_options, "upperdir", NULL, &path) <= 0)
                return false;
        if (is_same_upper(c, path, pid))
                return true;
        mount_option_unescape(path);
        return is_same_upper(c, path, pid);
}

/* A swap has made ours of that one, or it of ours. */
static bool is_from_before_swap(const CheckContext *c, const MountEntry *e) {
        _cleanup_free_ char *work = NULL;

        if (mount_options_next(e->fs_options, "workdir", NULL, &work) <= 0)
                return false;
        mount_option_unescape(work);
        return c->o->work && strcmp(work, c->o->work) != 0 && overlay_work_is_sibling(work, c->o->work);
}

static int take_second(CheckContext *c, const MountEntry *e, pid_t pid) {
        if (is_from_before_swap(c, e)) {
                c->swapped_pid = pid;
                return 0;
        }
        c->second = strdup(e->target);
        c->second_pid = pid;
        return c->second ? 0 : -ENOMEM;
}

typedef struct Scan {
        CheckContext *c;
        char own[PATH_MAX]; /* mount namespace of this process */
} Scan;

static int visit_table(const MountTable *t, pid_t pid, const char *namespace, void *userdata) {
        const Scan *scan = userdata;
        CheckContext *c = scan->c;

        for (size_t i = 0; i < t->n; i++) {
                const MountEntry *e = t->items + i;

                if (strcmp(e->type, "overlay") != 0)
                        continue;
                if (e->device == c->o->device) {
                        if (c->elsewhere == 0 && strcmp(namespace, scan->own) != 0)
                                c->elsewhere = pid;
                } else if (!c->second && has_our_upper(c, e, pid)) {
                        int r = take_second(c, e, pid);

                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

int check_scan_namespaces(CheckContext *c) {
        _cleanup_free_ char *link = path_join(c->proc, "self/ns/mnt");
        Scan scan = { .c = c };
        ssize_t n;

        if (!link)
                return -ENOMEM;
        if (!c->o->upper)
                return 0;
        n = readlink(link, scan.own, sizeof(scan.own) - 1);
        scan.own[n > 0 ? n : 0] = '\0';
        return mount_namespaces_foreach(c->proc, visit_table, &scan);
}

int check_other_namespaces(const CheckContext *c, Check *f) {
        if (!c->o->upper)
                return 0;
        if (c->elsewhere == 0)
                return check_say(f, CHECK_OK, "no other mount namespace shows the overlay");
        return check_say(
                f, CHECK_OK,
                "other mount namespaces (of process %d) show the overlay: what is finalized holds there at "
                "once",
                (int) c->elsewhere);
}

int check_second_overlay(const CheckContext *c, Check *f) {
        if (!c->o->upper)
                return 0;
        if (!c->second && c->swapped_pid > 0)
                return check_say(
                               f, CHECK_WARNING,
                               "process %d sees a mount of the superblock from before a swap: what is "
                               "renamed or removed here may still show there for a while",
                               (int) c->swapped_pid)
                        ?: check_advise(f, "restart the service when it suits");
        if (!c->second)
                return check_say(f, CHECK_OK, "no other overlay uses the upper layer");
        return check_say(
                       f, CHECK_FAIL,
                       "another overlay uses the same upper layer, at '%s' (as process %d sees it): neither "
                       "sees the other's changes",
                       c->second, (int) c->second_pid)
                ?: check_advise(f, "unmount one of the two");
}
