/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Prune in directories that are not finalized: copied up around or beside finalized ones, or by hand. What
 * was copied up there is not recorded, so a complete entry counts as somebody's, and only metacopy files
 * and empty directories go. */
#include <string.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/context/staging.h"
#include "core/lower/difference.h"
#include "core/record/recorded.h"
#include "core/release/prune.h"
#include "core/upper/names.h"

typedef struct Merged {
        Prune *p;
        const struct Merged *parent;
        const char *path;
        int upper_fd;
        const char *lower; /* NULL: pure */
        bool is_gone;
        Failure *unknown;
} Merged;

static int walk(Merged *m);

int prune_is_lower_gone(Prune *p, const char *path, const char *lower, Failure *unknown) {
        _cleanup_failure_ Failure f = FAILURE_INIT;
        const char *known, *identity = records_identity_for(p->records, lower, &known);
        struct stat st;
        int r = lower_stat(p->lower, lower, &st);

        if (r >= 0)
                return 0;
        r = p->context->options.force && r == -ENOENT
                ? 1
                : lower_is_removed(p->lower, lower, known, identity, &f);
        if (r >= 0)
                return r;
        context_note(p->context, path, "%s", f.message ?: "the lower layers do not tell");
        p->counts.n_excluded++;
        failure_move(unknown, &f);
        return 0;
}

/* What is below a directory that is gone is gone with it, unless there is one again. */
static int is_lower_gone(const Merged *m, const char *path, const char *lower) {
        struct stat st;

        if (m->is_gone && path_startswith(lower, m->lower))
                return lower_stat(m->p->lower, lower, &st) == -ENOENT;
        return prune_is_lower_gone(m->p, path, lower, m->unknown);
}

static int find_lower(const Merged *m, const char *name, const UpperEntry *e, char **ret) {
        if (upper_entry_has_absolute_redirect(e))
                *ret = strdup(e->redirect + 1);
        else if (m->lower)
                *ret = path_join(m->lower, e->redirect ?: name);
        else
                return 0;
        return *ret ? 1 : -ENOMEM;
}

static int visit_directory(Merged *m, const char *name, const char *path, const UpperEntry *e) {
        Merged below = { .p = m->p, .parent = m, .path = path, .upper_fd = -EBADF, .unknown = m->unknown };
        _cleanup_free_ char *lower = NULL;
        int r = e->class == UPPER_OPAQUE ? 0 : find_lower(m, name, e, &lower);

        if (r < 0)
                return r;
        below.lower = lower;
        /* Made here in a directory of which only the name was in the lower: it has no origin. */
        if (lower && (e->has_origin || e->redirect))
                below.is_gone = is_lower_gone(m, path, lower) > 0;
        below.upper_fd = open_dir_beneath(m->upper_fd, name);
        if (below.upper_fd < 0)
                return errno_is_gone(below.upper_fd) ? 0 : below.upper_fd;
        r = walk(&below);
        (void) fd_close(below.upper_fd);
        if (r >= 0 && below.is_gone)
                r = prune_directory_gone(m->p, path);
        return r < 0 ? r : 0;
}

static int visit_file(Merged *m, const char *name, const char *path, const UpperEntry *e) {
        _cleanup_free_ char *lower = NULL;
        int r;

        if (e->class != UPPER_METACOPY || !m->lower)
                return 0; /* of finalized directories the record knows more */
        r = find_lower(m, name, e, &lower);
        if (r >= 0)
                r = is_lower_gone(m, path, lower);
        return r <= 0 ? r
                      : prune_entry(m->p, m->upper_fd, m->path, name, e, /* is_locally_modified= */ false);
}

static int visit(int upper_fd, const char *name, unsigned char type, void *userdata) {
        Merged *m = userdata;
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        _cleanup_free_ char *path = path_join(m->path, name);
        int r;

        if (!path)
                return -ENOMEM;
        if (context_is_canceled(m->p->context))
                return -ECANCELED;
        if (is_staging_name(name))
                return 0;
        r = upper_entry_read(upper_fd, name, &e);
        if (r < 0 || e.class == UPPER_MISSING || e.class == UPPER_WHITEOUT)
                return prune_leave(m->p, CALL_READ, "look at", upper_fd, name, path, r);
        return e.type == DT_DIR ? visit_directory(m, name, path, &e) : visit_file(m, name, path, &e);
}

static int walk(Merged *m) {
        int r = dir_foreach(m->upper_fd, visit, m);

        return errno_is_gone(r) ? 0 : r;
}

/* The directory that was asked for stands in one that says whether it is gone itself. */
static int walk_alone(Merged *around, const char *name, const char *path) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        int r = upper_entry_read(around->upper_fd, name, &e);

        return r < 0 || e.type != DT_DIR ? (errno_is_gone(r) ? 0 : r)
                                         : visit_directory(around, name, path, &e);
}

int prune_merged(Prune *p, const char *path, Failure *unknown) {
        _cleanup_free_ char *parent = path_dirname(path), *lower = NULL;
        Merged m = { .p = p, .path = parent, .unknown = unknown };
        bool in_upper;
        int r;

        if (!parent)
                return -ENOMEM;
        r = upper_lower_path(p->context->upper_fd, parent, &lower, &in_upper);
        if (r < 0 || !in_upper)
                return errno_is_gone(r) ? 0 : r;
        m.lower = lower;
        m.upper_fd = open_dir_beneath(p->context->upper_fd, parent);
        if (m.upper_fd < 0)
                return errno_is_gone(m.upper_fd) ? 0 : m.upper_fd;
        r = path[0] == '\0' ? walk(&m) : walk_alone(&m, path_basename(path), path);
        (void) fd_close(m.upper_fd);
        return r;
}
