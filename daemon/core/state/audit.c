/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/state/audit.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "base/str.h"
#include "core/context/error-scope.h"
#include "core/context/staging.h"
#include "core/upper/layer.h"
#include "core/upper/names.h"
#include "core/upper/observe.h"
#include "core/users/occupants.h"

void directory_report_done(DirectoryReport *r) {
        free(r->reason);
        free(r->lower_path);
        *r = (DirectoryReport){ 0 };
}

/* Removed or replaced while we look, as users do. */
static bool is_gone(int r) {
        return errno_is_gone(r) || r == -ESTALE;
}

typedef struct Census {
        const Context *context;
        const char *path; /* of the directory */
        uint64_t n_entries, n_merge_children;
        char *unresolvable; /* a merge child without an absolute redirect */
        char *lower;        /* what the directory was, if a child vouches for it */
        char *unread;       /* why one could not be looked at */
        int error;          /* that */
} Census;

static void census_done(Census *c) {
        free(c->unresolvable);
        free(c->lower);
        free(c->unread);
}

/* A redirect says where the child was, and no more: users move what was finalized into directories of their
 * own. One that stands under its old name in a directory of the old name has not been moved. */
static int note_redirect(Census *c, const char *name, const UpperEntry *e) {
        _cleanup_free_ char *directory = NULL;

        if (!upper_entry_has_absolute_redirect(e)) {
                if (!c->unresolvable)
                        c->unresolvable = strdup(name);
                return 0;
        }
        if (c->lower || strcmp(path_basename(e->redirect), name) != 0)
                return 0;
        directory = path_dirname(e->redirect + 1);
        if (!directory)
                return -ENOMEM;
        if (strcmp(path_basename(directory), path_basename(c->path)) == 0)
                c->lower = TAKE_PTR(directory);
        return 0;
}

/* r: of looking at one entry. What belongs to that one alone is a reason, and the others are counted: 0. */
static int note_unread(Census *c, int dfd, const char *name, int r) {
        _cleanup_free_ char *path = NULL, *full = NULL;

        if (!c->context || error_scope(c->context, CALL_READ, r) != SCOPE_ENTRY)
                return r;
        c->n_entries++;
        c->error = r;
        path = path_join(c->path, name);
        full = path ? path_join(c->context->overlay->mount_point, path) : NULL;
        free(c->unread);
        c->unread = full ? error_reason(r, CALL_READ, "look at", full, dfd, name) : NULL;
        return c->unread ? 0 : -ENOMEM;
}

static int count_entry(int dfd, const char *name, unsigned char type, void *userdata) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        Census *c = userdata;
        int r;

        if (is_staging_name(name))
                return 0;
        r = upper_entry_read(dfd, name, &e);
        if (r < 0)
                return note_unread(c, dfd, name, r);
        if (e.class == UPPER_MISSING || e.class == UPPER_WHITEOUT)
                return 0;
        c->n_entries++;
        if (!upper_entry_is_merge_child(&e))
                return 0;
        c->n_merge_children++;
        return note_redirect(c, name, &e);
}

/* Whether the upper directory at path answers by itself: opaque, or below one that does without a redirect
 * of its own. */
static int is_pure(const Context *context, const char *path) {
        _cleanup_free_ char *lower = NULL;
        bool in_upper;
        int r = upper_lower_path(context->upper_fd, path, &lower, &in_upper);

        return r < 0 ? r : in_upper && !lower;
}

static int set_reason(DirectoryReport *r, DirectoryState state, const char *reason) {
        r->state = state;
        free(r->reason);
        r->reason = reason ? strdup(reason) : NULL;
        return reason && !r->reason ? -ENOMEM : 0;
}

/* It reads as merged. */
static int set_pending(int fd, int upper_fd, DirectoryReport *r) {
        return set_reason(
                r, DIRECTORY_PENDING,
                observe_can_tell(fd, upper_fd)
                        ? "it is marked, but the running mount still has it cached as merged; it takes "
                          "effect "
                          "with the next mount, or once nobody uses it"
                        : "it is marked, and in effect after the next mount at the latest; whether it is by "
                          "now, this kernel does not tell on such an upper file system (Linux 6.6 does)");
}

static int judge_pure(
        int fd, int upper_fd, const Node *recorded, const Finding *finding, Census *c, DirectoryReport *r) {
        int observed;

        r->n_merge_children = c->n_merge_children;
        if (recorded && recorded->lower)
                r->lower_path = strdup(recorded->lower);
        else
                r->lower_path = TAKE_PTR(c->lower);
        if (recorded)
                r->finalized_usec = recorded->tree->usec;
        if (c->unread)
                return set_reason(r, error_state(c->error), c->unread);
        if (c->unresolvable) {
                r->state = DIRECTORY_BROKEN;
                r->scheme = "redirect";
                r->reason = str_format(
                        "'%s' needs a lower layer and has no absolute redirect to it", c->unresolvable);
                return r->reason ? 0 : -ENOMEM;
        }
        if (!r->lower_path)
                return set_reason(r, DIRECTORY_LOCAL, NULL);
        r->scheme = "redirect";
        observed = observe_directory(fd);
        if (observed < 0)
                return observed;
        if (observed != OBSERVED_PURE)
                return set_pending(fd, upper_fd, r);
        return finding ? set_reason(r, finding->state, finding->reason)
                       : set_reason(r, DIRECTORY_FINALIZED, NULL);
}

typedef struct MergedListing {
        int upper_fd;
        uint64_t n_entries;
        bool is_covered;
} MergedListing;

static int cover_entry(int dfd, const char *name, unsigned char type, void *userdata) {
        MergedListing *c = userdata;
        struct stat st;

        c->n_entries++;
        if (c->upper_fd < 0 || fstatat(c->upper_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                c->is_covered = false;
        return 0;
}

static int judge_merged(const Context *context, int fd, const char *path, DirectoryReport *r) {
        _cleanup_close_ int upper_fd = open_dir_beneath(context->upper_fd, path);
        MergedListing c = { .upper_fd = upper_fd, .is_covered = true };
        bool in_upper;
        int k;

        k = upper_lower_path(context->upper_fd, path, &r->lower_path, &in_upper);
        if (k >= 0)
                k = dir_foreach(fd, cover_entry, &c);
        r->n_entries = c.n_entries;
        r->state = c.is_covered && upper_fd >= 0 ? DIRECTORY_COPIED_UP : DIRECTORY_MERGED;
        return k;
}

/* fd, upper_fd: the directory at path, through the overlay and in the upper. */
static int audit_pure(
        const Context *context,
        const Records *records,
        int fd,
        int upper_fd,
        const char *path,
        DirectoryReport *ret) {
        _cleanup_(census_done) Census c = { .context = context, .path = path };
        _cleanup_free_ char *handle = NULL;
        int r = file_handle_at(upper_fd, "", &handle);

        if (r >= 0)
                r = dir_foreach(upper_fd, count_entry, &c);
        ret->n_entries = c.n_entries;
        return r < 0 ? r
                     : judge_pure(
                               fd, upper_fd, records_find(records, handle),
                               records_find_finding(records, handle), &c, ret);
}

static int
judge(const Context *context, const Records *records, int fd, const char *path, DirectoryReport *ret) {
        _cleanup_close_ int upper_fd = -EBADF;
        int r = is_pure(context, path);

        if (r <= 0)
                return r < 0 ? r : judge_merged(context, fd, path, ret);
        upper_fd = open_dir_beneath(context->upper_fd, path);
        return upper_fd < 0 ? upper_fd : audit_pure(context, records, fd, upper_fd, path, ret);
}

int audit_directory(
        const Context *context,
        const Records *records,
        const char *path,
        DirectoryReport *ret,
        Failure *reterr) {
        _cleanup_(directory_report_done) DirectoryReport report = { .path = path };
        _cleanup_close_ int fd = open_dir_beneath(context->root_fd, path);
        int r = fd;

        if (fd == -EXDEV)
                return failure_set(
                        reterr, FAILURE_NOT_MANAGED, EXDEV, "'%s/%s' belongs to another file system",
                        context->overlay->mount_point, path);
        if (fd >= 0 && path[0] == '\0')
                r = set_reason(
                        &report, DIRECTORY_EXCLUDED, "overlayfs always merges the root of an overlay");
        else if (fd >= 0)
                r = judge(context, records, fd, path, &report);
        if (r < 0)
                return failure_set_errno(
                        reterr, r, "cannot look at '%s/%s'", context->overlay->mount_point, path);
        *ret = TAKE_AS(report, (DirectoryReport){ 0 });
        return 0;
}

/* r: of opening or listing one directory of the upper. What belongs to that one alone is told, and the
 * others are looked at: 0. */
static int pass_over(const Context *context, const char *path, int r) {
        _cleanup_free_ char *full = NULL, *reason = NULL;

        if (r >= 0 || is_gone(r))
                return 0;
        if (error_scope(context, CALL_READ, r) != SCOPE_ENTRY)
                return r;
        full = path_join(context->overlay->upper, path);
        reason = full ? error_reason(r, CALL_READ, "list the directory", full, -EBADF, NULL) : NULL;
        if (!reason)
                return -ENOMEM;
        context_note(context, path, "what is below is not looked at: %s", reason);
        return 0;
}

/* No system call takes such a path. What stands there cannot be finalized, and nobody can name it. */
static bool is_too_long(const Context *context, const char *parent, const char *path) {
        if (strlen(path) < PATH_MAX)
                return false;
        context_note(
                context, parent, "what it holds is not looked at: its path is longer than %d bytes",
                PATH_MAX);
        return true;
}

typedef struct Walk {
        const Context *context;
        const Records *records;
        report_func func;
        void *userdata;
} Walk;

/* A directory being listed. Not deeper than PATH_MAX / 2 of them. */
typedef struct Level {
        const Walk *walk;
        const char *path;
        bool is_pure;
        bool has_failed; /* at something in it */
} Level;

static int walk(const Walk *w, int fd, const char *path, bool is_pure);

static int walk_child(int dfd, const char *name, unsigned char type, void *userdata) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int fd = -EBADF;
        Level *l = userdata;
        int r;

        if (type != DT_DIR || is_staging_name(name))
                return 0;
        path = path_join(l->path, name);
        if (!path)
                return -ENOMEM;
        if (is_too_long(l->walk->context, l->path, path))
                return 0;
        fd = open_dir_beneath(dfd, name);
        if (fd < 0)
                return pass_over(l->walk->context, path, fd);
        r = upper_entry_read(fd, "", &e);
        if (r >= 0)
                r =
                        walk(l->walk, fd, path,
                             e.class == UPPER_OPAQUE || (e.class == UPPER_PLAIN && l->is_pure));
        l->has_failed = r < 0;
        return r;
}

static int report_pure(const Walk *w, int upper_fd, const char *path) {
        _cleanup_(directory_report_done) DirectoryReport r = { .path = path };
        _cleanup_close_ int fd = open_dir_beneath(w->context->root_fd, path);
        int k = fd < 0 ? fd : audit_pure(w->context, w->records, fd, upper_fd, path, &r);

        if (k < 0)
                return is_gone(k) || k == -EXDEV ? 0 : k; /* or something is mounted upon it */
        return r.state == DIRECTORY_LOCAL ? 0 : w->func(&r, w->userdata);
}

static int walk(const Walk *w, int fd, const char *path, bool is_pure) {
        Level l = { .walk = w, .path = path, .is_pure = is_pure };
        int r = is_pure ? report_pure(w, fd, path) : 0;

        if (r != 0)
                return r < 0 ? r : 0;
        r = dir_foreach(fd, walk_child, &l);
        return l.has_failed ? r : pass_over(w->context, path, r);
}

int audit_tree(
        const Context *context, const Records *records, const char *path, report_func func, void *userdata) {
        const Walk w = { .context = context, .records = records, .func = func, .userdata = userdata };
        _cleanup_close_ int fd = open_dir_beneath(context->upper_fd, path);
        int r = fd < 0 ? fd : is_pure(context, path);

        return r < 0 ? (is_gone(r) ? 0 : r) : walk(&w, fd, path, r);
}

typedef struct UndoList {
        const Context *context;
        const char *top;
        PathList *ret;
} UndoList;

/* What is known to be finalized is undone. Where that is guessed, only what was asked for by its name. */
static int add_found(const DirectoryReport *r, void *userdata) {
        UndoList *list = userdata;
        int k;

        if (r->finalized_usec == 0 && strcmp(r->path, list->top) != 0 && !list->context->options.force) {
                context_note(
                        list->context, r->path,
                        "it looks finalized, but its record is lost: it stays as it is, unless it is "
                        "unfinalized by itself with --force");
                return 0;
        }
        k = path_list_add(list->ret, r->path);
        return k < 0 ? k : 1;
}

int audit_find_finalized(const Context *context, const Records *records, const char *path, PathList *ret) {
        UndoList list = { .context = context, .top = path, .ret = ret };

        return audit_tree(context, records, path, add_found, &list);
}

int audit_guess_lower(int upper_fd, char **ret) {
        _cleanup_(census_done) Census c = { 0 };
        _cleanup_free_ char *path = NULL;
        int r = fd_path(upper_fd, &path);

        if (r < 0)
                return r == -ENAMETOOLONG ? -ENODATA : r;
        c.path = path;
        r = dir_foreach(upper_fd, count_entry, &c);
        if (r < 0)
                return r;
        if (!c.lower)
                return -ENODATA;
        *ret = TAKE_PTR(c.lower);
        return 0;
}

/* A directory of the upper being listed. */
typedef struct Listing {
        const Context *context;
        const char *path;
        upper_func func;
        void *userdata;
        bool has_failed; /* at something in it */
} Listing;

static int walk_upper(Listing *l, int fd);

static int visit_upper(int dfd, const char *name, unsigned char type, void *userdata) {
        Listing *l = userdata;
        _cleanup_free_ char *path = path_join(l->path, name);
        Listing below = { .context = l->context, .path = path, .func = l->func, .userdata = l->userdata };
        _cleanup_close_ int fd = -EBADF;
        int r;

        if (!path)
                return -ENOMEM;
        if (is_too_long(l->context, l->path, path))
                return 0;
        r = l->func(dfd, name, type, path, l->userdata);
        if (r == 0 && type == DT_DIR && !is_staging_name(name)) {
                fd = open_dir_beneath(dfd, name);
                r = fd < 0 ? pass_over(l->context, path, fd) : walk_upper(&below, fd);
        }
        l->has_failed = r < 0;
        return r < 0 ? r : 0;
}

static int walk_upper(Listing *l, int fd) {
        int r = dir_foreach(fd, visit_upper, l);

        return is_gone(r) ? 0 : l->has_failed ? r : pass_over(l->context, l->path, r);
}

int audit_upper(const Context *context, const char *path, upper_func func, void *userdata) {
        _cleanup_close_ int fd = open_dir_beneath(context->upper_fd, path);
        Listing l = { .context = context, .path = path, .func = func, .userdata = userdata };

        return fd < 0 ? (is_gone(fd) ? 0 : fd) : walk_upper(&l, fd);
}

static int search_merged(int dfd, const char *name, unsigned char type, const char *path, void *userdata) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        int r;

        if (type != DT_DIR || is_staging_name(name))
                return 0;
        r = upper_entry_read(dfd, name, &e);
        if (r < 0 || e.class != UPPER_REDIRECT)
                return r;
        r = path_list_add(userdata, path);
        return r < 0 ? r : 1;
}

int audit_find_merged(const Context *context, const char *path, PathList *ret) {
        return audit_upper(context, path, search_merged, ret);
}

typedef struct AliasSearch {
        const char *path, *lower; /* of the directory to be merged again */
        char **ret;
} AliasSearch;

static int search_alias(int dfd, const char *name, unsigned char type, const char *path, void *userdata) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        _cleanup_free_ char *own_path = NULL;
        AliasSearch *a = userdata;
        const char *below;
        int r;

        if (is_staging_name(name) || (type != DT_REG && type != DT_DIR))
                return 0;
        r = upper_entry_read(dfd, name, &e);
        if (r < 0 || e.class == UPPER_OPAQUE || !upper_entry_has_absolute_redirect(&e))
                return r;
        below = path_startswith(e.redirect + 1, a->lower);
        if (!below)
                return 0;
        own_path = path_join(a->path, below);
        if (!own_path)
                return -ENOMEM;
        if (strcmp(own_path, path) == 0)
                return 0;
        *a->ret = strdup(path);
        return *a->ret ? -EEXIST : -ENOMEM;
}

int audit_find_alias(const Context *context, const char *path, const char *lower, char **ret) {
        AliasSearch a = { .path = path, .lower = lower, .ret = ret };
        int r = audit_upper(context, "", search_alias, &a);

        return r == -EEXIST ? 1 : r;
}

static int note_stray(int dfd, const char *name, unsigned char type, const char *path, void *userdata) {
        const char *id = type == DT_DIR ? old_tree_id(name) : NULL;
        const Context *context = userdata;

        if (!id || !staging_is_gone(context, id))
                return 0;
        /* Its own worker removes the tree first, then its staging directory. */
        if (faccessat(dfd, name, F_OK, AT_SYMLINK_NOFOLLOW) >= 0)
                context_note(
                        context, path,
                        "an old tree that was kept for processes standing in it, and what was known about "
                        "it ('" STAGING_NAME
                        "/%s') is gone; take out of it what is still needed, then remove it",
                        id);
        return 0;
}

int audit_note_strays(const Context *context) {
        return audit_upper(context, "", note_stray, (void *) context);
}

typedef struct OldTrees {
        const Context *context;
        const char *lower; /* of the directory to be merged again */
        Failure *reterr;
} OldTrees;

static int refuse_old_tree(const OldTrees *o, const Tree *t, const char *component) {
        const char *point = o->context->overlay->mount_point;
        Occupants occupants;

        if (occupants_find(component, NULL, &occupants) < 0 || occupants.n == 0)
                return failure_set(
                        o->reterr, FAILURE_BUSY, FAILURE_ERROR_HELD,
                        "what '%s/%s' was before it was finalized is still being removed (or is kept for an "
                        "overlay that has it for a layer, or for processes in an older tree of it)",
                        point, t->path);
        return failure_set(
                o->reterr, FAILURE_BUSY, EBUSY,
                "processes stand in what '%s/%s' was before it was finalized, %u in all: %s; try again when "
                "they have left it or ended",
                point, t->path, occupants.n, occupants.who);
}

/* Whether this piece of work keeps an old tree that is merged with the same part of the lower. */
static int check_old_tree(const char *id, void *userdata) {
        _cleanup_(tree_freep) Tree *t = NULL;
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int fd = -EBADF;
        const OldTrees *o = userdata;
        const char *lower, *name;

        if (staging_read_snapshot_of(o->context, id, &t) < 0 || t->is_undo || !t->root->lower ||
            !t->root->old_handle)
                return 0;
        lower = t->root->lower;
        if (!path_startswith(lower, o->lower) && !path_startswith(o->lower, lower))
                return 0;
        fd = file_handle_open(o->context->upper_fd, t->root->old_handle, &path);
        if (fd < 0)
                return 0;
        name = path_basename(path);
        if (!is_staging_name(path) && !is_staging_name(name))
                return 0; /* not exchanged yet */
        return refuse_old_tree(o, t, is_staging_name(name) ? name : id);
}

int audit_check_old_trees(const Context *context, const char *lower, Failure *reterr) {
        OldTrees o = { .context = context, .lower = lower, .reterr = reterr };

        return staging_foreach(context, check_old_tree, &o, reterr);
}
