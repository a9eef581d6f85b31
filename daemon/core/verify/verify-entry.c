/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One entry of the upper: whether the kernel resolves it, and to what. It goes by the kernel's own rules of
 * lookup (layer.h). It finds; a repair is made by repair.c, and asked for only where the right value is
 * proved by type, size and, where there are handles, origin. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "base/str.h"
#include "core/verify/verify-internal.h"

/* Tells of a problem. repair, which may be NULL, is called first when repairs are wanted. */
static int
found(const VerifyEntry *x, ProblemKind kind, repair_func repair, const char *value, const char *detail) {
        bool is_repaired = x->v->want_repair && repair && repair(x, value) > 0;

        return verify_found(x->v, kind, x->path, detail, is_repaired);
}

/* The lower path an entry has by its name, NULL if its directory has none. */
static int lower_by_name(const VerifyEntry *x, const char *name, char **ret) {
        *ret = x->dir->lower ? path_join(x->dir->lower, name) : NULL;
        return x->dir->lower && !*ret ? -ENOMEM : 0;
}

/* Whether what stands at the lower path is what the entry was copied from: of its type, its size, and, where
 * there are handles, the very file. */
static bool is_proven(const VerifyEntry *x, const char *lower) {
        struct stat st;

        if (!lower || lower_stat(x->v->lower, lower, &st) < 0 || IFTODT(st.st_mode) != x->e->type)
                return false;
        if (x->e->type != DT_DIR && (uint64_t) st.st_size != x->e->size)
                return false;
        return lower_is_origin(x->v->lower, lower, x->origin, (size_t) x->origin_size) != 0;
}

/* An entry whose redirect does not work: the right one, if there is proof of it. */
static int found_redirect(const VerifyEntry *x, ProblemKind kind, const char *lower_name) {
        _cleanup_free_ char *lower = NULL, *value = NULL;
        int r = lower_by_name(x, lower_name, &lower);

        if (r < 0)
                return r;
        if (!is_proven(x, lower))
                return found(x, kind, NULL, NULL, x->e->redirect);
        value = str_format("/%s", lower);
        if (!value)
                return -ENOMEM;
        return found(x, kind, repair_redirect, value, value);
}

/* To the nanosecond: what was restored from a copy has it. */
static bool has_time_of(const VerifyEntry *x, const struct stat *lower) {
        struct stat st;

        return fstatat(x->dir->upper_fd, x->name, &st, AT_SYMLINK_NOFOLLOW) >= 0 &&
                st.st_mtim.tv_sec == lower->st_mtim.tv_sec && st.st_mtim.tv_nsec == lower->st_mtim.tv_nsec;
}

static int compare_file(const VerifyEntry *x, const char *lower, const struct stat *st) {
        char detail[128];

        if ((uint64_t) st->st_size != x->e->size) {
                (void) snprintf(
                        detail, sizeof(detail), "%llu bytes here, %llu in the lower layer",
                        (unsigned long long) x->e->size, (unsigned long long) st->st_size);
                return found(x, PROBLEM_SIZE_CHANGED, NULL, NULL, detail);
        }
        if (lower_is_origin(x->v->lower, lower, x->origin, (size_t) x->origin_size) == 0 &&
            !has_time_of(x, st))
                return found(x, PROBLEM_REPLACED, NULL, NULL, lower);
        return 0;
}

static int found_unknown(const VerifyEntry *x, int r) {
        return found(x, PROBLEM_LOWER_UNKNOWN, NULL, NULL, strerror(-r));
}

/* lower: where the kernel finds it. A directory that does not answer is told when it is listed. */
static int check_target(const VerifyEntry *x, const char *lower) {
        struct stat st;
        int r = lower_stat(x->v->lower, lower, &st);

        if (r == -ENOENT)
                return found(x, PROBLEM_LOWER_MISSING, NULL, NULL, lower);
        if (r < 0)
                return x->e->type == DT_DIR ? 0 : found_unknown(x, r);
        if (IFTODT(st.st_mode) != x->e->type)
                return found(x, PROBLEM_LOWER_OTHER_TYPE, NULL, NULL, lower);
        return x->e->type == DT_DIR ? 0 : compare_file(x, lower, &st);
}

static int check_merge_child(const VerifyEntry *x) {
        _cleanup_free_ char *lower = NULL;
        const char *redirect = x->e->redirect;
        int r;

        if (redirect && !upper_redirect_is_valid(redirect))
                return found_redirect(x, PROBLEM_MALFORMED_REDIRECT, x->name);
        if (redirect && redirect[0] == '/')
                return check_target(x, redirect + 1);
        if (x->dir->is_pure)
                return found_redirect(
                        x, redirect ? PROBLEM_RELATIVE_REDIRECT : PROBLEM_MISSING_REDIRECT,
                        redirect ?: x->name);
        r = lower_by_name(x, redirect ?: x->name, &lower);
        return r < 0 ? r : check_target(x, lower);
}

/* A directory that was copied up, and its lower counterpart. */
static int check_plain_directory(const VerifyEntry *x) {
        _cleanup_free_ char *lower = NULL;
        struct stat st;
        int r;

        if (!x->e->has_origin)
                return 0;
        if (x->dir->is_pure)
                return found(x, PROBLEM_LOST_DIRECTORY, NULL, NULL, NULL);
        r = lower_by_name(x, x->name, &lower);
        if (r < 0)
                return r;
        r = lower_stat(x->v->lower, lower, &st);
        return r == -ENOENT ? found(x, PROBLEM_LOWER_MISSING, NULL, NULL, lower) : 0;
}

/* 'z' is that of kernels with the finalize-dir patch. */
static int check_opaque_value(const VerifyEntry *x) {
        _cleanup_free_ char *value = NULL;
        int fd = open_beneath(x->dir->upper_fd, x->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
        ssize_t n = fd < 0 ? fd : xattr_read_fd(fd, XATTR_OPAQUE, &value);

        (void) fd_close(fd);
        if (n < 0 || (n == 1 && strchr("xyz", value[0])))
                return 0;
        return found(x, PROBLEM_BAD_OPAQUE, NULL, NULL, value);
}

/* A lookup has not found the name. 0: the lower directory does not list it either; else an error. One that
 * is empty, or is not there, may be so for the moment. */
static int check_not_listed(const VerifyEntry *x, const char *lower) {
        VerifyDirectory *d = x->dir;

        if (!d->has_lower_names) {
                int r = lower_list(x->v->lower, d->lower, &d->lower_names);

                if (r < 0)
                        return r;
                d->has_lower_names = true;
        }
        if (d->lower_names.n == 0)
                return -ESTALE;
        return path_list_has(&d->lower_names, x->name) && !lower_is_whiteout(x->v->lower, lower) ? -ESTALE
                                                                                                 : 0;
}

static int check_whiteout(const VerifyEntry *x) {
        _cleanup_free_ char *lower = NULL;
        struct stat st;
        int r;

        if (x->dir->is_pure)
                return x->dir->has_origin ? 0
                                          : found(x, PROBLEM_VISIBLE_WHITEOUT, repair_whiteout, NULL, NULL);
        r = lower_by_name(x, x->name, &lower);
        if (r < 0)
                return r;
        r = lower_stat(x->v->lower, lower, &st);
        if (r == -ENOENT) {
                r = check_not_listed(x, lower);
                if (r == 0)
                        return found(x, PROBLEM_IDLE_WHITEOUT, repair_whiteout, NULL, NULL);
        }
        return r < 0 ? found_unknown(x, r) : 0;
}

int verify_entry(VerifyEntry *x) {
        int r;

        switch (x->e->class) {
        case UPPER_WHITEOUT:
                return check_whiteout(x);
        case UPPER_METACOPY:
                return check_merge_child(x);
        case UPPER_REDIRECT:
                r = check_opaque_value(x);
                return r < 0 ? r : check_merge_child(x);
        case UPPER_PLAIN:
                r = check_opaque_value(x);
                return r < 0 ? r : check_plain_directory(x);
        default:
                return 0;
        }
}
