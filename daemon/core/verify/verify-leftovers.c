/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is no entry of an upper and belongs to nobody any more: records, staging, the kernel's work
 * directory. What a living worker has locked, or the next survey removes, is no problem and is not told.
 * What cannot be looked at is not called idle. */
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "core/context/staging.h"
#include "core/upper/names.h"
#include "core/verify/verify-internal.h"

/* Whether a directory of the record still answers by itself, wherever it stands; 1 ends the search. */
static int is_node_in_use(Node *n, void *userdata) {
        const Verify *v = userdata;
        _cleanup_free_ char *path = NULL, *lower = NULL;
        bool in_upper;
        int fd;

        if (!n->new_handle)
                return 0;
        fd = file_handle_open(v->context->upper_fd, n->new_handle, &path);
        if (fd == -ESTALE || fd == -ENOENT)
                return 0;
        (void) fd_close(fd);
        /* What cannot be looked at is not called idle. */
        if (fd < 0 || upper_lower_path(v->context->upper_fd, path, &lower, &in_upper) < 0)
                return -EEXIST;
        return lower ? 0 : -EEXIST;
}

static int check_record(const Tree *t, void *userdata) {
        Verify *v = userdata;
        bool is_repaired = false;

        if (tree_foreach((Tree *) t, is_node_in_use, v) < 0)
                return 0;
        if (v->want_repair && syncfs(v->context->upper_fd) >= 0)
                is_repaired = unlinkat(v->context->records_fd, t->id, 0) >= 0 || errno == ENOENT;
        return verify_found(v, PROBLEM_IDLE_RECORD, t->path, t->id, is_repaired);
}

static int check_damaged(Verify *v) {
        char detail[32];

        if (records_n_damaged(v->records) == 0)
                return 0;
        (void) snprintf(detail, sizeof(detail), "%u", records_n_damaged(v->records));
        return verify_found(
                v, PROBLEM_DAMAGED_RECORD, "", detail,
                v->want_repair && records_set_damaged_aside(v->context->records_fd) >= 0);
}

/* A worker that is alive holds the lock of its directory. */
static bool is_worked_on(const Verify *v, const char *path) {
        _cleanup_close_ int fd = -EBADF;

        if (v->context->root_fd < 0)
                return false;
        fd = open_dir_beneath(v->context->root_fd, path);
        return fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0;
}

/* What was not published, and holds nothing of anybody's, the next survey removes. There is none while the
 * overlay is not mounted. */
static bool goes_by_itself(const Verify *v, int base_fd, const char *name) {
        static const char *const lasting[] = { STAGING_SNAPSHOT, STAGING_REPLACED };
        _cleanup_close_ int fd = v->context->root_fd >= 0 ? open_dir_beneath(base_fd, name) : -EBADF,
                            kept_fd = -EBADF;

        if (fd < 0)
                return false;
        for (size_t i = 0; i < ELEMENTSOF(lasting); i++)
                if (faccessat(fd, lasting[i], F_OK, AT_SYMLINK_NOFOLLOW) >= 0 || errno != ENOENT)
                        return false;
        kept_fd = open_dir_beneath(fd, STAGING_KEPT);
        return kept_fd == -ENOENT || (kept_fd >= 0 && dir_is_empty(kept_fd) > 0);
}

static int check_work(int dfd, const char *name, unsigned char type, void *userdata) {
        char path[sizeof(STAGING_NAME) + 1 + STAGING_ID_LENGTH];
        Verify *v = userdata;

        if (type != DT_DIR || !is_staging_id(name))
                return 0;
        (void) snprintf(path, sizeof(path), STAGING_NAME "/%s", name);
        return is_worked_on(v, path) || goes_by_itself(v, dfd, name)
                ? 0
                : verify_found(v, PROBLEM_LEFTOVER_STAGING, path, NULL, false);
}

static int check_staging(Verify *v) {
        _cleanup_close_ int fd = open_dir_beneath(v->context->upper_fd, STAGING_NAME);

        if (fd < 0)
                return errno_is_gone(fd) ? 0 : fd;
        return dir_foreach(fd, check_work, v);
}

static int check_leftover(int dfd, const char *name, unsigned char type, void *userdata) {
        _cleanup_close_ int fd = -EBADF;
        bool is_repaired = false;
        Verify *v = userdata;
        struct stat st;

        /* The whiteout that the kernel keeps for linking others from it (ovl_whiteout();
         * docs/overlayfs.md 7.1). */
        if (fstatat(dfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || (S_ISCHR(st.st_mode) && st.st_rdev == 0))
                return 0;
        if (v->want_repair && type == DT_DIR)
                fd = open_dir_beneath(dfd, name);
        if (v->want_repair && (fd < 0 || dir_empty(fd) >= 0))
                is_repaired = unlinkat(dfd, name, type == DT_DIR ? AT_REMOVEDIR : 0) >= 0;
        return verify_found(v, PROBLEM_LEFTOVER_WORK, "", name, is_repaired);
}

/* On a mounted overlay the kernel is at work there. */
static int check_work_directory(Verify *v) {
        const char *work = v->context->overlay->work;
        _cleanup_close_ int fd = -EBADF, work_fd = -EBADF;

        if (v->context->root_fd >= 0 || !work)
                return 0;
        fd = open(work, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        work_fd = open_dir_beneath(fd, "work");
        if (work_fd < 0)
                return errno_is_gone(work_fd) ? 0 : work_fd;
        return dir_foreach(work_fd, check_leftover, v);
}

int verify_leftovers(Verify *v) {
        int r = v->records ? records_foreach(v->records, check_record, v) : 0;

        if (r >= 0 && v->records)
                r = check_damaged(v);
        if (r >= 0)
                r = check_staging(v);
        return r < 0 ? r : check_work_directory(v);
}

int verify_old_tree(Verify *v, const char *name, const char *path) {
        const char *id = old_tree_id(name);

        if (!id || !staging_is_gone(v->context, id))
                return 0;
        return verify_found(v, PROBLEM_LEFTOVER_OLD_TREE, path, NULL, false);
}
