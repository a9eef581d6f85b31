/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The part of a job that marks: which directories go to mark_run() together (a subtree to a depth, the
 * ancestors, those around a directory that cannot be exchanged), and what of the result is reported. How a
 * directory is marked is mark/mark.c's. */
#include "core/job/work-internal.h"

#include <string.h>

#include "base/path-util.h"
#include "core/mark/mark.h"

static int report_blocked(Work *w, const WorkResult *result) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < result->n_blocked; i++) {
                const Blocked *b = result->blocked + i;
                _cleanup_failure_ Failure f = FAILURE_INIT;

                r = w->hooks->report(
                        &(DirectoryReport){ .path = b->path, .state = b->state, .reason = b->reason },
                        w->hooks->userdata);
                if (strcmp(b->path, w->path) != 0)
                        continue;
                (void) failure_set(
                        &f, blocked_kind(b), EBUSY, "'%s/%s' cannot be marked: %s",
                        w->context->overlay->mount_point, b->path, b->reason);
                work_add_failure(w, &f);
        }
        return r;
}

int work_mark(Work *w, const PathList *paths) {
        _cleanup_(work_result_done) WorkResult result = { 0 };
        _cleanup_failure_ Failure f = FAILURE_INIT;
        int r = mark_run(w->context, paths, &result, &f), k;

        if (r == RESULT_HUNG)
                return r;
        work_add_failure(w, &f);
        w->counts.n_entries += result.n_entries;
        w->counts.n_directories += result.n_directories;
        w->counts.n_excluded += result.n_blocked;
        w->counts.needs_survey |= result.needs_survey;
        k = report_blocked(w, &result);
        return r < 0 ? r : k;
}

int work_mark_subtree(Work *w) {
        _cleanup_failure_ Failure f = FAILURE_INIT;
        PathList paths = { 0 };
        int r = mark_list(w->context, w->path, w->context->options.depth, &paths);

        if (r < 0)
                (void) failure_set_errno(
                        &f, r, "cannot list what is below '%s/%s'", w->context->overlay->mount_point,
                        w->path);
        work_add_failure(w, &f);
        path_list_sort(&paths);
        if (r >= 0)
                r = work_mark(w, &paths);
        if (r != RESULT_HUNG) /* threads that hang use them */
                path_list_done(&paths);
        return r;
}

static int list_parents(const char *path, PathList *ret) {
        _cleanup_free_ char *parent = path_dirname(path);
        int r;

        if (!parent)
                return -ENOMEM;
        if (parent[0] == '\0')
                return 0;
        r = list_parents(parent, ret);
        return r < 0 ? r : path_list_add(ret, parent);
}

static int report_parents(const Work *w, const PathList *paths) {
        _cleanup_(records_freep) Records *records = NULL;
        int r = records_load(w->context->records_fd, w->context->upper_fd, &records);

        for (size_t i = 0; r >= 0 && i < paths->n; i++) {
                _cleanup_(directory_report_done) DirectoryReport report = { 0 };
                _cleanup_failure_ Failure f = FAILURE_INIT;

                if (audit_directory(w->context, records, paths->items[i], &report, &f) >= 0 &&
                    report.state == DIRECTORY_FINALIZED)
                        r = w->hooks->report(&report, w->hooks->userdata);
        }
        return r;
}

int work_mark_parents(Work *w) {
        _cleanup_failure_ Failure f = FAILURE_INIT;
        PathList paths = { 0 };
        int r = list_parents(w->path, &paths);

        if (r >= 0)
                r = work_mark(w, &paths);
        if (r == RESULT_HUNG)
                return r;
        if (r >= 0)
                r = report_parents(w, &paths);
        path_list_done(&paths);
        if (r < 0 && w->failure.error != -r) /* it may be just that */
                (void) failure_set_errno(&f, r, "cannot mark the directories above '%s'", w->path);
        work_add_failure(w, &f);
        return r;
}

static int plan(const PathList *paths, const WorkHooks *hooks) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < paths->n; i++)
                r = hooks->step(
                        &(PlanStep){
                                .name = "mark",
                                .path = paths->items[i],
                                .text = "copy up its entries, write redirects, see that nothing of it is in "
                                        "use, make it opaque",
                        },
                        hooks->userdata);
        return r;
}

int work_mark_plan(Context *context, const char *path, const WorkHooks *hooks, Failure *reterr) {
        _cleanup_paths_ PathList paths = { 0 };
        int r = context->options.want_parents ? list_parents(path, &paths) : 0;

        if (r >= 0 && context_wants_mark(context))
                r = mark_list(context, path, context->options.depth, &paths);
        if (r >= 0)
                r = plan(&paths, hooks);
        return r < 0 ? failure_set_errno(reterr, r, "cannot plan '%s'", path) : 0;
}
