/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/job/work-internal.h"

#include <string.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "base/str.h"
#include "core/context/error-scope.h"
#include "core/context/staging.h"
#include "core/mark/mark.h"
#include "core/mount/reconfigure.h"
#include "core/upper/names.h"
#include "core/users/held.h"

/* For old trees somebody stands in for a moment. */
#define KEPT_PATIENCE_USEC (5 * USEC_PER_SEC)
/* For directories that are renamed each time it is their turn. */
#define SEARCHES_MAX 3

static int report_state(const WorkHooks *hooks, const char *path, DirectoryState state, char *reason) {
        return hooks->report(
                &(DirectoryReport){ .path = path, .state = state, .reason = reason }, hooks->userdata);
}

static void work_done(Work *w) {
        if (w->is_hung)
                return;
        path_list_done(&w->todo);
        path_list_done(&w->around);
        records_free(w->records);
        failure_done(&w->failure);
        failure_done(&w->wait);
        context_forget_inner_mounts(w->context);
}

int work_load(Context *context, const char *path, Records **ret, Failure *reterr) {
        int r = context_load_inner_mounts(context);

        inner_search_rest(&context->inner_search);
        if (r < 0)
                return failure_set_errno(reterr, r, "cannot read the mount tables of other processes");
        r = context_load_records(context, ret, reterr);
        if (r < 0)
                return r;
        if (records_n_damaged(*ret) > 0)
                context_note(
                        context, path, "%u record%s damaged and ignored, in the state directory",
                        records_n_damaged(*ret), records_n_damaged(*ret) == 1 ? " is" : "s are");
        return 0;
}

static int reload_records(Work *w) {
        w->records = records_free(w->records);
        return records_load(w->context->records_fd, w->context->upper_fd, &w->records);
}

static const char *full(const Work *w, char *buffer, const char *path) {
        (void) snprintf(
                buffer, PATH_MAX, "%s%s%s", w->context->overlay->mount_point, path[0] ? "/" : "", path);
        return buffer;
}

/* A job ends with one failure. It is the first, unless a later one says that a lower layer does not answer:
 * that may pass by itself, and a job that ends with it is tried again. */
void work_add_failure(Work *w, Failure *f) {
        if (f->kind == FAILURE_LOWER_UNREACHABLE && w->failure.kind != FAILURE_LOWER_UNREACHABLE)
                failure_done(&w->failure);
        failure_move(&w->failure, f);
}

/* A mount holds all directories above in memory. */
static bool may_mark(const Work *w, const char *path) {
        return w->may_mark && !context_has_unplaced_layer(w->context) &&
                !context_find_inner_mount_below(w->context, path);
}

/* Ancestors of a blocked directory cannot be exchanged either, up to the one that was tried: an exchange
 * takes the whole subtree. A mark takes one directory. */
static int report_ancestors(Work *w, const char *tried, const Blocked *b) {
        _cleanup_free_ char *p = strdup(b->path),
                            *reason = str_format(
                                    "it holds '%s', which cannot be exchanged: %s", b->path, b->reason);

        if (!p || !reason)
                return -ENOMEM;
        while (strcmp(p, tried) != 0) {
                char *parent = path_dirname(p);
                int k;

                if (!parent)
                        return -ENOMEM;
                free(p);
                p = parent;
                k = may_mark(w, p) ? path_list_add(&w->around, p)
                                   : report_state(w->hooks, p, b->state, reason);
                if (k < 0)
                        return k;
        }
        return 0;
}

/* What a lower layer did not answer for may be had later. A job that is done but for that is done; one that
 * fails anyway is better tried again. */
static void note_wait(Work *w, const Blocked *b) {
        char buffer[PATH_MAX];

        if (blocked_kind(b) == FAILURE_LOWER_UNREACHABLE)
                (void) failure_set(
                        &w->wait, FAILURE_LOWER_UNREACHABLE, EBUSY, "'%s' cannot be exchanged: %s",
                        full(w, buffer, b->path), b->reason);
}

/* Some directories stand in the way: say which, go on with what is not affected. */
static int split(Work *w, const char *tried, const WorkResult *result) {
        char buffer[PATH_MAX];
        int r = 0;

        for (size_t i = 0; r >= 0 && i < result->n_blocked; i++) {
                const Blocked *b = result->blocked + i;

                w->counts.n_excluded++;
                r = report_state(w->hooks, b->path, b->state, b->reason);
                if (r >= 0)
                        r = report_ancestors(w, tried, b);
                if (r >= 0 && strcmp(tried, w->path) == 0 &&
                    (strcmp(b->path, tried) == 0 || !may_mark(w, tried)))
                        (void) failure_set(
                                &w->failure, blocked_kind(b), EBUSY, "'%s' cannot be exchanged: %s",
                                full(w, buffer, b->path), b->reason);
                if (r >= 0)
                        note_wait(w, b);
        }
        for (size_t i = 0; r >= 0 && i < result->children.n; i++)
                r = path_list_add(&w->todo, result->children.items[i]);
        return r;
}

/* Errors that concern the whole job rather than one directory: those of one are blocked by now, but for an
 * undo. */
static bool ends_job(const Work *w, const Failure *f, int r) {
        return f->kind == FAILURE_CANCELED || f->kind == FAILURE_NO_SPACE ||
                f->kind == FAILURE_LOWER_UNREACHABLE || error_scope(w->context, CALL_MAKE, r) >= SCOPE_LOWER;
}

/* A directory in the one that was asked for, renamed or removed since it was found. */
static bool has_moved_away(Work *w, const char *path) {
        _cleanup_close_ int fd =
                strcmp(path, w->path) == 0 ? -EBADF : open_dir_beneath(w->context->root_fd, path);
        bool is_gone = errno_is_gone(fd);

        w->has_moved_away |= is_gone;
        return is_gone;
}

/* Whether there is more to do: in the end what was renamed is looked for once more. */
static int search_again(Work *w, bool is_undo) {
        char buffer[PATH_MAX];
        int r;

        if (w->todo.n > 0 || !w->has_moved_away)
                return w->todo.n > 0;
        w->has_moved_away = false;
        if (w->n_searches++ >= SEARCHES_MAX) {
                (void) failure_set(
                        &w->failure, FAILURE_BUSY, EBUSY,
                        "directories in '%s' are renamed whenever it is their turn; try again later",
                        full(w, buffer, w->path));
                return 0;
        }
        r = is_undo ? audit_find_finalized(w->context, w->records, w->path, &w->todo)
                    : audit_find_merged(w->context, w->path, &w->todo);
        return r < 0 ? r : w->todo.n > 0;
}

static int conclude_one(
        Work *w, const char *path, int r, const WorkResult *result, bool *ret_has_merged_child, Failure *f) {
        int k;

        if (r == RESULT_BLOCKED && f->kind == FAILURE_NONE) {
                *ret_has_merged_child = result->has_merged_child;
                return result->has_merged_child ? 0 : split(w, path, result);
        }
        if (r >= 0 || (!ends_job(w, f, r) && has_moved_away(w, path)))
                return 0;
        k = ends_job(w, f, r)
                ? r
                : report_state(
                          w->hooks, path, r == -EFBIG ? DIRECTORY_EXCLUDED : DIRECTORY_PENDING, f->message);
        work_add_failure(w, f);
        return k;
}

static int exchange_one(Work *w, const char *path, bool is_undo, bool *ret_has_merged_child) {
        WorkResult *result = calloc(1, sizeof(WorkResult));
        _cleanup_failure_ Failure f = FAILURE_INIT;
        Exchange *x = NULL;
        int r, k;

        if (!result)
                return -ENOMEM;
        r = exchange_run(w->context, path, is_undo, w->records, result, &x, &f);
        if (r == RESULT_HUNG) {
                w->is_hung = true;
                return r;
        }
        w->counts.n_entries += result->n_entries;
        w->counts.n_directories += result->n_directories;
        w->counts.needs_survey |= result->needs_survey;
        k = keepers_retire(w->hooks->kept, x);
        w->is_hung = k == RESULT_HUNG;
        if (r >= 0 || w->is_hung)
                r = k;
        r = conclude_one(w, path, r, result, ret_has_merged_child, &f);
        work_result_done(result);
        free(result);
        return r;
}

static int exchange_all(Work *w, bool is_undo) {
        bool has_merged_child = false;

        int r = 0;

        while (r >= 0 && (r = search_again(w, is_undo)) > 0) {
                _cleanup_free_ char *path = path_list_take(&w->todo);

                r = exchange_one(w, path, is_undo, &has_merged_child);
        }
        return r;
}

/* The overlay's root is the directory that can never be exchanged. */
static int split_root(Work *w) {
        _cleanup_(work_result_done) WorkResult result = { 0 };
        int r = work_result_block(
                &result, "", DIRECTORY_EXCLUDED, /* error= */ 0,
                "overlayfs always merges the root of an overlay");

        if (r >= 0)
                r = context_list_directories(w->context, "", &result.children);
        return r < 0 ? r : split(w, "", &result);
}

/* What came of it, by observation: the directory asked for is in the wanted state, or the first failure says
 * why not. */
static int conclude(Work *w, bool is_undo, Failure *reterr) {
        _cleanup_(directory_report_done) DirectoryReport report = { 0 };
        _cleanup_failure_ Failure unseen = FAILURE_INIT;
        char buffer[PATH_MAX];
        int r = audit_tree(w->context, w->records, w->path, w->hooks->report, w->hooks->userdata);

        if (r >= 0)
                r = audit_directory(w->context, w->records, w->path, &report, &unseen);
        if (r < 0) {
                (void) failure_set_errno(&unseen, r, "cannot look at '%s'", full(w, buffer, w->path));
                work_add_failure(w, &unseen);
        }
        if (w->failure.kind != FAILURE_NONE && w->wait.kind != FAILURE_NONE)
                work_add_failure(w, &w->wait);
        if (w->failure.kind != FAILURE_NONE) {
                int error = w->failure.error;

                failure_move(reterr, &w->failure);
                return error > 0 ? -error : -EIO;
        }
        if (is_undo)
                return w->hooks->report(&report, w->hooks->userdata);
        if (directory_state_is_finalized(report.state) || report.state == DIRECTORY_LOCAL)
                return 0;
        return failure_set(
                reterr, FAILURE_BUSY, EBUSY, "'%s' is not finalized: %s", full(w, buffer, w->path),
                report.reason ?: directory_state_to_string(report.state));
}

static int conclude_failed(Work *w, int r, Failure *reterr) {
        _cleanup_failure_ Failure f = FAILURE_INIT;
        char buffer[PATH_MAX];

        if (w->is_hung) {
                failure_done(reterr);
                (void) failure_set(
                        reterr, FAILURE_CANCELED, ECANCELED,
                        "canceled while '%s' waited for a file system that does not answer; what is left of "
                        "the work is removed at the next start",
                        full(w, buffer, w->path));
                return r;
        }
        (void) failure_set_errno(&f, r, "cannot work on '%s'", full(w, buffer, w->path));
        if (w->failure.error != -r) /* it may be just that */
                work_add_failure(w, &f);
        failure_move(reterr, &w->failure);
        return r;
}

static int audit_target(Work *w, DirectoryReport *ret, Failure *reterr) {
        for (const char *p = w->path; p && *p; p = strchr(p, '/') ? strchr(p, '/') + 1 : NULL) {
                if (is_staging_name(p))
                        return failure_set(
                                reterr, FAILURE_NOT_MANAGED, EINVAL, "'%s' belongs to ovlfind itself", p);
        }
        return audit_directory(w->context, w->records, w->path, ret, reterr);
}

static int find_todo(Work *w, const DirectoryReport *report) {
        if (w->path[0] == '\0')
                return split_root(w);
        if (report->state == DIRECTORY_MERGED || report->state == DIRECTORY_COPIED_UP)
                return path_list_add(&w->todo, w->path);
        if (report->state == DIRECTORY_PENDING) { /* marked, and used by somebody then */
                int r = remount_reconfigure(w->context->root_fd, &w->failure);

                if (r < 0)
                        return r;
        }
        /* In effect already, but for merged directories that were moved in since. */
        return audit_find_merged(w->context, w->path, &w->todo);
}

static int exchange_subtree(Work *w, const DirectoryReport *report) {
        int r;

        w->may_mark = w->context->options.method == METHOD_AUTO;
        r = find_todo(w, report);
        if (r >= 0)
                r = exchange_all(w, /* is_undo= */ false);
        /* An old tree of ours beside a directory is a use of the one around. */
        if (r >= 0 && w->around.n > 0)
                r = work_keep_for(w->context, w->hooks->kept, KEPT_PATIENCE_USEC);
        if (r >= 0 && w->around.n > 0) {
                path_list_sort(&w->around);
                r = work_mark(w, &w->around);
        }
        return r;
}

/* What there is to know before anything is done. */
static int begin(Work *w, DirectoryReport *report, Failure *reterr) {
        int r = work_load(w->context, w->path, &w->records, reterr);

        return r < 0 ? r : audit_target(w, report, reterr);
}

int work_finalize(
        Context *context, const char *path, const WorkHooks *hooks, WorkCounts *ret, Failure *reterr) {
        _cleanup_(work_done) Work w = { .context = context, .path = path, .hooks = hooks };
        _cleanup_(directory_report_done) DirectoryReport report = { 0 };
        int r = guard_room(context, path, /* bytes= */ 0, reterr);

        if (r >= 0)
                r = begin(&w, &report, reterr);
        if (r < 0)
                return r;
        if (globs_match_within(&context->options.exclude, path))
                globs_done(&context->options.exclude); /* it was named by whoever asked */
        r = context_wants_mark(context) ? work_mark_subtree(&w) : exchange_subtree(&w, &report);
        if (r >= 0 && context->options.want_parents)
                r = work_mark_parents(&w);
        if (r == RESULT_HUNG)
                w.is_hung = true;
        if (r >= 0)
                r = reload_records(&w);
        *ret = w.counts;
        return r < 0 ? conclude_failed(&w, r, reterr) : conclude(&w, /* is_undo= */ false, reterr);
}

/* What a forced undo cannot do: keep a name deleted that stands elsewhere now. */
static int check_aliases(const Work *w, const DirectoryReport *report, Failure *reterr) {
        _cleanup_free_ char *alias = NULL;
        char buffer[PATH_MAX], alias_buffer[PATH_MAX];
        int r = report->lower_path ? audit_find_alias(w->context, report->path, report->lower_path, &alias)
                                   : 0;

        if (r <= 0)
                return r;
        return failure_set(
                reterr, FAILURE_PRECONDITION, EEXIST,
                "'%s' was in '%s' when it was finalized, under another name, and its record is lost: the "
                "old name would come back as well, and both would be one file; move it back first, or "
                "remove it",
                full(w, alias_buffer, alias), full(w, buffer, report->path));
}

static int check_record(const Work *w, const DirectoryReport *report, Failure *reterr) {
        char buffer[PATH_MAX];

        if (report->finalized_usec != 0)
                return 0;
        if (w->context->options.force)
                return check_aliases(w, report, reterr);
        return failure_set(
                reterr, FAILURE_PRECONDITION, ENODATA,
                "the record of what '%s' held when it was finalized is lost; with --force, lower names that "
                "are missing now count as added since, and come back even if they were deleted",
                full(w, buffer, report->path));
}

static int check_undo(const Work *w, const char *path, Failure *reterr) {
        _cleanup_(directory_report_done) DirectoryReport report = { 0 };
        int r = audit_directory(w->context, w->records, path, &report, reterr);

        if (r >= 0)
                r = check_record(w, &report, reterr);
        if (r < 0 || !report.lower_path || w->context->options.is_private)
                return r;
        /* Known before anything is built: what the kernel refuses it does not let us remove either. */
        r = audit_check_old_trees(w->context, report.lower_path, reterr);
        return r < 0 ? r : held_check(w->context, path, report.lower_path, reterr);
}

/* An undo rebuilds the tree, and so needs what is below to be exchangeable; a mark did not. */
static int fail_around(Work *w, const char *path) {
        char buffer[PATH_MAX];

        (void) failure_set(
                &w->failure, FAILURE_PRECONDITION, EBUSY,
                "'%s' was marked around a directory that cannot be exchanged, so it cannot be rebuilt while "
                "it is mounted; take the hindrance away that 'finalize --method=exchange' tells, or "
                "unfinalize it with --offline",
                full(w, buffer, path));
        return 0;
}

/* What is finalized below a directory that is not any more. */
static int add_finalized(Work *w, const char *path) {
        _cleanup_paths_ PathList below = { 0 };
        int r = audit_find_finalized(w->context, w->records, path, &below);

        for (size_t i = 0; r >= 0 && i < below.n; i++)
                r = path_list_add(&w->todo, below.items[i]);
        return r;
}

/* Merged directories moved in since must be pure before the tree around them can be rebuilt. */
static int undo_one(Work *w, const char *path) {
        _cleanup_failure_ Failure f = FAILURE_INIT;
        bool has_merged_child = false;
        size_t done = w->todo.n;
        int r = check_undo(w, path, &f);

        if (r < 0 && has_moved_away(w, path))
                return 0;
        if (r < 0) {
                r = ends_job(w, &f, r) ? r : 0;
                work_add_failure(w, &f);
                return r;
        }
        if (w->context->options.is_private) {
                r = mark_undo(w->context, path, w->records, &w->failure);
                if (r != 0)
                        return r < 0 ? r : add_finalized(w, path);
        }
        r = exchange_one(w, path, /* is_undo= */ true, &has_merged_child);
        if (r < 0 || !has_merged_child)
                return r;
        r = audit_find_merged(w->context, path, &w->todo);
        while (r >= 0 && w->todo.n > done) {
                _cleanup_free_ char *merged = path_list_take(&w->todo);

                r = exchange_one(w, merged, /* is_undo= */ false, &has_merged_child);
        }
        if (r >= 0)
                r = reload_records(w);
        has_merged_child = false;
        if (r >= 0)
                r = exchange_one(w, path, /* is_undo= */ true, &has_merged_child);
        return r < 0 || !has_merged_child ? r : fail_around(w, path);
}

static int note_finalized(const DirectoryReport *r, void *userdata) {
        return path_list_add(userdata, r->path);
}

/* What became of the directories that were finalized before: each is something else now. */
static int report_again(Work *w, const PathList *were_finalized) {
        for (size_t i = 0; i < were_finalized->n; i++) {
                _cleanup_(directory_report_done) DirectoryReport report = { 0 };
                _cleanup_failure_ Failure f = FAILURE_INIT;
                int r;

                if (audit_directory(w->context, w->records, were_finalized->items[i], &report, &f) < 0)
                        continue; /* removed meanwhile */
                r = w->hooks->report(&report, w->hooks->userdata);
                if (r < 0)
                        return r;
        }
        return 0;
}

int work_unfinalize(
        Context *context, const char *path, const WorkHooks *hooks, WorkCounts *ret, Failure *reterr) {
        _cleanup_(work_done) Work w = { .context = context, .path = path, .hooks = hooks };
        _cleanup_(directory_report_done) DirectoryReport report = { 0 };
        _cleanup_paths_ PathList were_finalized = { 0 };
        int r = begin(&w, &report, reterr);

        if (r < 0)
                return r;
        r = audit_tree(context, w.records, path, note_finalized, &were_finalized);
        if (r >= 0)
                r = audit_find_finalized(context, w.records, path, &w.todo);
        while (r >= 0 && (r = search_again(&w, /* is_undo= */ true)) > 0) {
                _cleanup_free_ char *unit = path_list_take(&w.todo);

                r = undo_one(&w, unit);
        }
        if (r >= 0)
                r = reload_records(&w);
        /* Those of directories that are gone tell what is held. */
        if (r >= 0 && w.failure.error != FAILURE_ERROR_HELD)
                r = records_prune(w.records, context->records_fd, context->upper_fd);
        if (r >= 0)
                r = report_again(&w, &were_finalized);
        *ret = w.counts;
        return r < 0 ? conclude_failed(&w, r, reterr) : conclude(&w, /* is_undo= */ true, reterr);
}
