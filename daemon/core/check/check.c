/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The list of checks, in the order in which a person repairs things, and those that look at options and
 * settings only. Nothing is changed. The advice for options that are missing is a mount command, because an
 * overlay cannot be given other options while it is mounted. */
#include "core/check/check.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "base/path-util.h"
#include "core/check/check-internal.h"
#include "core/mount/mount-clone.h"

#define INOTIFY_WATCHES_LOW 8192UL        /* one per directory of the tree a job rebuilds */
#define INOTIFY_INSTANCES_LOW 32UL        /* one per running job, besides those of other programs of root */
#define INOTIFY_QUEUED_EVENTS_LOW 16384UL /* the kernel's own default */

/* For a shell. */
static char *quote(const char *s) {
        char *q = malloc(4 * strlen(s) + 3), *p = q;

        if (!q)
                return NULL;
        *p++ = '\'';
        for (; *s; s++)
                if (*s == '\'')
                        p = stpcpy(p, "'\\''");
                else
                        *p++ = *s;
        *p++ = '\'';
        *p = '\0';
        return q;
}

static int advise_mount(const Overlay *o, Check *f) {
        _cleanup_free_ char *options = overlay_format_options(o),
                            *quoted_options = options ? quote(options) : NULL, *source = quote(o->source),
                            *mount_point = quote(o->mount_point);

        if (!quoted_options || !source || !mount_point)
                return -ENOMEM;
        if (strchr(options, '"')) /* which mount(8) takes for quoting, whatever is written */
                return check_advise(
                        f, "unmount %s and mount it with metacopy=on,redirect_dir=on", mount_point);
        return check_advise(
                f,
                "set metacopy=on,redirect_dir=on (in /etc/fstab too), by 'ovlfinctl remount --method=swap "
                "--set=metacopy=on,redirect_dir=on' while it is in use, or: umount %s; mount -t overlay -o "
                "%s %s %s",
                mount_point, quoted_options, source, mount_point);
}

static int check_upper(const CheckContext *c, Check *f) {
        if (c->o->upper)
                return check_say(f, CHECK_OK, "the overlay has an upper layer, '%s'", c->o->upper);
        return check_say(f, CHECK_FAIL, "the overlay has no upper layer: nothing can be copied up")
                ?: check_advise(f, "mount it with upperdir= and workdir=");
}

static int check_read_write(const CheckContext *c, Check *f) {
        if (!c->o->upper)
                return 0;
        if (!c->o->is_read_only)
                return check_say(f, CHECK_OK, "mounted read-write");
        return check_say(f, CHECK_FAIL, "mounted read-only")
                ?: check_advise(f, "mount --options-mode=ignore -o remount,rw '%s'", c->o->mount_point);
}

static int check_metacopy(const CheckContext *c, Check *f) {
        if (c->o->metacopy == TRI_YES)
                return check_say(f, CHECK_OK, "metacopy is on: copying up takes no data");
        return check_say(
                       f, CHECK_FAIL,
                       "metacopy is %s: every file copied up would take all its data from the lower layer",
                       c->o->metacopy == TRI_NO ? "off" : "not known to be on")
                ?: advise_mount(c->o, f);
}

/* A directory that is merged can only be renamed, and so be exchanged, with redirect_dir=on
 * (ovl_can_move(); docs/overlayfs.md 5.2). */
static int check_redirect(const CheckContext *c, Check *f) {
        int r;

        if (c->o->redirect == REDIRECT_ON)
                return check_say(f, CHECK_OK, "redirect_dir is on");
        if (c->o->follows_redirects)
                r = check_say(
                        f, CHECK_FAIL,
                        "redirect_dir is only followed: merged directories cannot be renamed (EXDEV)");
        else
                r = check_say(
                        f, CHECK_FAIL,
                        "redirect_dir is off: directories in a finalized directory would lose their "
                        "content");
        return r ?: advise_mount(c->o, f);
}

static int check_userxattr(const CheckContext *c, Check *f) {
        if (!c->o->is_userxattr)
                return check_say(f, CHECK_OK, "marks are trusted xattrs");
        return check_say(
                       f, CHECK_FAIL,
                       "userxattr: the kernel ignores trusted xattrs, follows no redirects and has no "
                       "metacopy")
                ?: check_advise(f, "mount it as root without userxattr, with metacopy=on,redirect_dir=on");
}

static int check_nfs_export(const CheckContext *c, Check *f) {
        if (c->o->nfs_export == TRI_NO)
                return check_say(f, CHECK_OK, "nfs_export is off");
        if (c->o->nfs_export == TRI_UNKNOWN)
                return check_say(f, CHECK_WARNING, "cannot tell whether nfs_export is on")
                        ?: check_advise(f, "mount with nfs_export=off");
        return check_say(
                       f, CHECK_FAIL,
                       "nfs_export is on: it excludes metacopy, and directories in use can turn stale")
                ?: check_advise(f, "mount with nfs_export=off,metacopy=on,redirect_dir=on");
}

static int check_index(const CheckContext *c, Check *f) {
        if (c->o->index == TRI_YES)
                return check_say(f, CHECK_OK, "index is on: hard links survive copying up");
        return check_say(
                f, CHECK_OK,
                "index is %s: a directory that holds hard links is left out, unless HardLinks=break is set",
                c->o->index == TRI_NO ? "off" : "unknown");
}

static int check_verity(const CheckContext *c, Check *f) {
        if (!mount_options_have(c->o->fs_options, "verity"))
                return check_say(f, CHECK_OK, "verity is off");
        if (!c->o->is_verity_required)
                return check_say(f, CHECK_OK, "verity is used where files have a digest");
        return check_say(
                       f, CHECK_WARNING,
                       "verity=require: a lower file without a digest is copied up with all its data")
                ?: check_advise(
                           f, "make sure that all lower files have fs-verity on, or mount with verity=on");
}

static int check_volatile(const CheckContext *c, Check *f) {
        if (!c->o->is_volatile)
                return check_say(f, CHECK_OK, "the upper layer is synced");
        return check_say(
                       f, CHECK_WARNING,
                       "volatile: after a crash of the machine the upper layer is lost as a whole")
                ?: check_advise(f, "mount without volatile if finalized directories should survive one");
}

/* Data-only layers give no names: with none but them nothing could be found through a redirect (EIO;
 * docs/overlayfs.md 3.9). */
static int check_data_layers(const CheckContext *c, Check *f) {
        if (c->o->n_lower == 0)
                return check_say(
                               f, CHECK_FAIL,
                               "there are only data-only lower layers: redirects cannot be resolved")
                        ?: check_advise(f, "mount with at least one ordinary lower layer");
        if (c->o->n_data == 0)
                return check_say(
                        f, CHECK_OK, "%zu lower layer%s, none of them data-only", c->o->n_lower,
                        PLURAL(c->o->n_lower));
        return check_say(
                f, CHECK_OK, "%zu lower layer%s and %zu data-only one%s", c->o->n_lower,
                PLURAL(c->o->n_lower), c->o->n_data, PLURAL(c->o->n_data));
}

/* -ENODATA when the file holds no number. */
static int read_number(const char *directory, const char *name, unsigned long *ret) {
        _cleanup_free_ char *path = path_join(directory, name);
        _cleanup_fclose_ FILE *f = path ? fopen(path, "re") : NULL;
        char line[32], *end;

        if (!path)
                return -ENOMEM;
        if (!f || !fgets(line, sizeof(line), f))
                return -ENODATA;
        errno = 0;
        *ret = strtoul(line, &end, 10);
        return errno != 0 || end == line ? -ENODATA : 0;
}

/* A job that meets a longer path raises the limit, which holds for the whole machine, for as long as it
 * runs. */
static int check_redirect_max(const CheckContext *c, Check *f) {
        _cleanup_free_ char *path = path_join(c->parameters, "redirect_max");
        unsigned long max;
        int r;

        if (!path)
                return -ENOMEM;
        r = read_number(c->parameters, "redirect_max", &max);
        if (r < 0)
                return r == -ENODATA ? 0 : r;
        if (max >= PATH_MAX)
                return check_say(f, CHECK_OK, "redirects may be as long as any path");
        if (access(path, W_OK) >= 0 || errno == EACCES) /* EACCES: not root, and so not whoever runs jobs */
                return check_say(
                        f, CHECK_OK, "redirect_max is %lu; it is raised while a job needs more", max);
        return check_say(
                       f, CHECK_WARNING,
                       "redirect_max is %lu and cannot be raised: longer lower paths stay as they are", max)
                ?: check_advise(f, "load the module overlay with redirect_max=%d", PATH_MAX);
}

static int check_inotify(const CheckContext *c, Check *f) {
        static const struct {
                const char *name;
                unsigned long low;
        } limits[] = {
                { "max_user_watches", INOTIFY_WATCHES_LOW },
                { "max_user_instances", INOTIFY_INSTANCES_LOW },
                { "max_queued_events", INOTIFY_QUEUED_EVENTS_LOW },
        };
        _cleanup_free_ char *directory = path_join(c->proc, "sys/fs/inotify");
        unsigned long value;

        if (!directory)
                return -ENOMEM;
        for (size_t i = 0; i < ELEMENTSOF(limits); i++)
                if (read_number(directory, limits[i].name, &value) >= 0 && value < limits[i].low)
                        return check_say(
                                       f, CHECK_WARNING,
                                       "fs.inotify.%s is %lu: changes in large trees cannot be followed, "
                                       "they will stay pending",
                                       limits[i].name, value)
                                ?: check_advise(
                                           f, "sysctl fs.inotify.%s=%lu", limits[i].name, limits[i].low);
        return check_say(f, CHECK_OK, "inotify has room");
}

/* In the order in which a person repairs things: what rules the mount out comes first. */
static const struct {
        const char *id;
        check_func func;
} checks[] = {
        { "upper", check_upper },
        { "read-write", check_read_write },
        { "userxattr", check_userxattr },
        { "metacopy", check_metacopy },
        { "redirect-dir", check_redirect },
        { "nfs-export", check_nfs_export },
        { "data-layers", check_data_layers },
        { "upper-path", check_upper_path },
        { "work-path", check_work_path },
        { "second-overlay", check_second_overlay },
        { "user-namespace", check_user_namespace },
        { "trusted-xattr", check_trusted_xattr },
        { "d-type", check_d_type },
        { "rename-whiteout", check_rename_whiteout },
        { "tmpfile", check_tmpfile },
        { "casefold", check_casefold },
        { "nested-lower", check_nested_lower },
        { "index", check_index },
        { "verity", check_verity },
        { "volatile", check_volatile },
        { "xino", check_xino },
        { "other-namespaces", check_other_namespaces },
        { "boot-entry", check_boot_entry },
        { "space", check_space },
        { "inodes", check_inodes },
        { "redirect-max", check_redirect_max },
        { "inotify", check_inotify },
};

static int open_directory(const char *path) {
        return path ? mount_clone_open(path, O_RDONLY) : -ENODATA;
}

static void check_context_done(CheckContext *c) {
        mount_table_done(&c->table);
        (void) fd_close(c->root_fd);
        (void) fd_close(c->upper_fd);
        (void) fd_close(c->work_fd);
        free(c->second);
}

static int check_context_init(CheckContext *c) {
        _cleanup_free_ char *path = path_join(c->proc, "self/mountinfo");
        int r;

        if (!path)
                return -ENOMEM;
        c->root_fd = open_directory(c->o->mount_point);
        c->upper_fd = open_directory(c->o->upper);
        c->work_fd = open_directory(c->o->work);
        r = mount_table_read(path, &c->table);
        return r < 0 ? r : check_scan_namespaces(c);
}

static int run_checks(const CheckContext *c, CheckList *l) {
        for (size_t i = 0; i < ELEMENTSOF(checks); i++) {
                Check *f = l->items + l->n;
                int r;

                f->id = checks[i].id;
                r = checks[i].func(c, f);
                if (f->text) /* before looking at r, so that the list's destructor sees it */
                        l->n++;
                if (r < 0)
                        return r;
        }
        return 0;
}

/* overlay_check_from() - find out whether directories of an overlay can be finalized
 * @sources: where the machine is looked at; may be NULL
 * Every check says one thing; a failed one does not keep the others from being run. Returns 0, -ENOMEM, or
 * what reading the mount tables says. Blocking: on the upper file system, the overlay's root and /proc. */
int overlay_check_from(const CheckSources *sources, const Overlay *o, CheckList *ret) {
        _cleanup_(check_context_done) CheckContext c = {
                .o = o,
                .proc = sources && sources->proc ? sources->proc : "/proc",
                .parameters = sources && sources->parameters ? sources->parameters
                                                             : "/sys/module/overlay/parameters",
                .root_fd = -EBADF,
                .upper_fd = -EBADF,
                .work_fd = -EBADF,
        };
        _cleanup_(check_list_done) CheckList l = { .items = calloc(ELEMENTSOF(checks), sizeof(Check)) };
        int r;

        if (!l.items)
                return -ENOMEM;
        r = check_context_init(&c);
        if (r >= 0)
                r = run_checks(&c, &l);
        if (r < 0)
                return r;
        *ret = TAKE_AS(l, (CheckList){ 0 });
        return 0;
}

int overlay_check(const Overlay *o, CheckList *ret) {
        return overlay_check_from(/* sources= */ NULL, o, ret);
}

const Check *check_list_find(const CheckList *l, const char *id) {
        for (size_t i = 0; i < l->n; i++)
                if (strcmp(l->items[i].id, id) == 0)
                        return l->items + i;
        return NULL;
}

int check_list_to_failure(const CheckList *l, const Overlay *o, Failure *reterr) {
        for (size_t i = 0; i < l->n; i++)
                if (l->items[i].level == CHECK_FAIL)
                        return failure_set(
                                reterr, FAILURE_PRECONDITION, EOPNOTSUPP,
                                "the overlay at '%s' cannot be used: %s; %s", o->mount_point,
                                l->items[i].text, l->items[i].advice ?: "see ovlfinctl check");
        return 0;
}

void check_list_done(CheckList *l) {
        for (size_t i = 0; i < l->n; i++) {
                free(l->items[i].text);
                free(l->items[i].advice);
        }
        free(l->items);
        *l = (CheckList){ 0 };
}
