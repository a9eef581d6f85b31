/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a job would do, as steps, without doing it: nothing is copied up or written. Entries are counted by
 * listing, so it waits for the lower as `ls -R` does. Space and inodes are estimates, rather too high than
 * too low. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <linux/magic.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/context/error-scope.h"
#include "core/context/staging.h"
#include "core/job/work-internal.h"
#include "core/upper/names.h"

/* Space an entry takes in the upper, at most: inode, directory entry, and where the inode has no
 * room for it a block for the redirect. */
static uint64_t bytes_per_entry(const Context *context) {
        struct statfs fs;

        if (fstatfs(context->upper_fd, &fs) < 0)
                return 4096;
        switch (fs.f_type) {
        case XFS_SUPER_MAGIC:
                return 640;
        case BTRFS_SUPER_MAGIC:
                return 1700;
        case TMPFS_MAGIC:
                return 1024;
        default:
                return 4096 + 64;
        }
}

/* The new tree's root, and the whiteout that the kernel keeps in the work directory. The directories above
 * may have to be copied up as well. */
#define INODES_BESIDE 2

static unsigned path_depth(const char *path) {
        unsigned n = 0;

        for (; *path; path++)
                n += *path == '/';
        return n;
}

typedef struct Count {
        const Context *context;
        const WorkHooks *hooks;
        const char *path;
        int upper_fd;
        uint64_t n_entries, n_new;
        bool is_excluded; /* and said so */
} Count;

static int count_directory(const Context *context, const WorkHooks *hooks, const char *path, Count *total);

static int exclude(const Count *c, const char *path, const char *why) {
        return c->hooks->step(
                &(PlanStep){ .name = "exclude", .path = path, .text = why }, c->hooks->userdata);
}

static int exclude_self(Count *c, const char *why) {
        if (c->is_excluded)
                return 0;
        c->is_excluded = true;
        return exclude(c, c->path, why);
}

static int exclude_unreadable(Count *c, int r) {
        _cleanup_free_ char *full = path_join(c->context->overlay->mount_point, c->path), *reason = NULL;

        reason = full ? error_reason(r, CALL_READ, "list the directory", full, -EBADF, NULL) : NULL;
        return reason ? exclude_self(c, reason) : -ENOMEM;
}

static const char *const why_not[] = {
        [INNER_MOUNT] = "something is mounted upon it",
        [INNER_BIND] = "it is bind-mounted elsewhere",
        [INNER_LAYER] = "it is a layer of another overlay",
};

static int count_entry(int dfd, const char *name, unsigned char type, void *userdata) {
        _cleanup_free_ char *path = NULL;
        const OverlayInnerMount *m;
        Count *c = userdata;
        struct stat st;

        if (is_staging_name(name))
                return exclude_self(
                        c, "it holds the old tree of a directory in which processes still stand");
        path = path_join(c->path, name);
        if (!path)
                return -ENOMEM;
        m = context_find_inner_mount(c->context, path);
        if (m)
                return exclude(c, path, why_not[m->kind]);
        c->n_entries++;
        if (c->upper_fd < 0 || fstatat(c->upper_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
                c->n_new++;
                if (type == DT_REG && !c->context->options.break_hard_links &&
                    c->context->overlay->index != TRI_YES &&
                    fstatat(dfd, name, &st, AT_SYMLINK_NOFOLLOW) >= 0 && st.st_nlink > 1)
                        return exclude_self(c, "it holds a file with several hard links (HardLinks=skip)");
        }
        return type == DT_DIR ? count_directory(c->context, c->hooks, path, c) : 0;
}

static int count_directory(const Context *context, const WorkHooks *hooks, const char *path, Count *total) {
        _cleanup_close_ int fd = open_dir_beneath(context->root_fd, path),
                            upper_fd = open_dir_beneath(context->upper_fd, path);
        Count c = { .context = context, .hooks = hooks, .path = path, .upper_fd = upper_fd };
        int r = fd < 0 ? fd : dir_foreach(fd, count_entry, &c);

        total->n_entries += c.n_entries;
        total->n_new += c.n_new;
        if (r >= 0 || errno_is_gone(r) || r == -EXDEV)
                return 0;
        return error_scope(context, CALL_READ, r) == SCOPE_ENTRY ? exclude_unreadable(&c, r) : r;
}

static int plan_unit(Context *context, const char *path, const WorkHooks *hooks, Failure *reterr) {
        Count c = { 0 };
        int r = count_directory(context, hooks, path, &c);

        for (size_t i = 0; r >= 0 && i < n_exchange_steps; i++) {
                bool builds = strcmp(exchange_steps[i].name, "copy-up") == 0;
                PlanStep s = {
                        .name = exchange_steps[i].name,
                        .path = path,
                        .text = exchange_steps[i].text ?: standing_describe(context->options.standing),
                        .n_entries = builds ? c.n_entries : 0,
                        .bytes = builds ? c.n_new * bytes_per_entry(context) : 0,
                        .n_inodes = builds ? c.n_new + path_depth(path) + INODES_BESIDE : 0,
                };
                r = hooks->step(&s, hooks->userdata);
        }
        return r < 0
                ? failure_set_errno(reterr, r, "cannot plan '%s/%s'", context->overlay->mount_point, path)
                : 0;
}

static int plan_units(Context *context, const PathList *units, const WorkHooks *hooks, Failure *reterr) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < units->n; i++)
                r = plan_unit(context, units->items[i], hooks, reterr);
        return r;
}

static int plan_finalize(
        Context *context,
        const char *path,
        const DirectoryReport *report,
        const WorkHooks *hooks,
        Failure *reterr) {
        _cleanup_paths_ PathList units = { 0 };
        int r;

        if (path[0] == '\0') {
                r = hooks->step(
                        &(PlanStep){ .name = "exclude", .path = "", .text = report->reason },
                        hooks->userdata);
                if (r >= 0)
                        r = context_list_directories(context, "", &units);
        } else if (report->state == DIRECTORY_MERGED || report->state == DIRECTORY_COPIED_UP)
                return plan_unit(context, path, hooks, reterr);
        else
                r = audit_find_merged(context, path, &units);
        return r < 0 ? failure_set_errno(reterr, r, "cannot plan '%s'", path)
                     : plan_units(context, &units, hooks, reterr);
}

int work_plan(Context *context, const char *path, bool is_undo, const WorkHooks *hooks, Failure *reterr) {
        _cleanup_(directory_report_done) DirectoryReport report = { 0 };
        _cleanup_(records_freep) Records *records = NULL;
        _cleanup_paths_ PathList units = { 0 };
        int r = context_load_inner_mounts(context);

        if (r >= 0)
                r = context_load_records(context, &records, reterr);
        if (r < 0)
                return failure_set_errno(reterr, r, "cannot plan '%s'", path);
        r = audit_directory(context, records, path, &report, reterr);
        if (r < 0)
                return r;
        if (!is_undo && (context_wants_mark(context) || context->options.want_parents)) {
                r = work_mark_plan(context, path, hooks, reterr);
                if (r < 0 || context_wants_mark(context))
                        return r;
        }
        if (!is_undo)
                return plan_finalize(context, path, &report, hooks, reterr);
        r = audit_find_finalized(context, records, path, &units);
        return r < 0 ? failure_set_errno(reterr, r, "cannot plan '%s'", path)
                     : plan_units(context, &units, hooks, reterr);
}
