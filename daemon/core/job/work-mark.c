/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The part of a job that marks: which directories go to mark_run() together (a subtree to a depth, the
 * ancestors, those around a directory that cannot be exchanged), and what of the result is reported. How a
 * directory is marked is mark/mark.c's. */
#include "core/job/work-internal.h"

#include <string.h>

#include "base/path-util.h"
#include "core/mark/mark.h"

static int report_blocked(
        const Context *context,
        const WorkResult *result,
        const char *target,
        const WorkHooks *hooks,
        Failure *ret_target) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < result->n_blocked; i++) {
                const Blocked *b = result->blocked + i;

                r = hooks->report(
                        &(DirectoryReport){ .path = b->path, .state = b->state, .reason = b->reason },
                        hooks->userdata);
                if (target && strcmp(b->path, target) == 0)
                        (void) failure_set(
                                ret_target, blocked_kind(b), EBUSY, "'%s/%s' cannot be marked: %s",
                                context->overlay->mount_point, b->path, b->reason);
        }
        return r;
}

int work_mark(
        Context *context,
        char **paths,
        size_t n,
        const char *target,
        const WorkHooks *hooks,
        WorkCounts *counts,
        Failure *ret_target,
        Failure *reterr) {
        _cleanup_(work_result_done) WorkResult result = { 0 };
        int r = mark_run(context, paths, n, &result, reterr), k;

        if (r == -ESHUTDOWN)
                return r;
        counts->n_entries += result.n_entries;
        counts->n_directories += result.n_directories;
        counts->n_excluded += result.n_blocked;
        k = report_blocked(context, &result, target, hooks, ret_target);
        return r < 0 ? r : k;
}

int work_mark_subtree(
        Context *context,
        const char *path,
        const WorkHooks *hooks,
        WorkCounts *counts,
        Failure *ret_target,
        Failure *reterr) {
        char **paths = NULL;
        size_t n = 0;
        int r = mark_list(context, path, context->options.depth, &paths, &n);

        if (r < 0)
                (void) failure_set_errno(
                        reterr, r, "cannot list what is below '%s/%s'", context->overlay->mount_point, path);
        n = path_list_sort(paths, n);
        if (r >= 0)
                r = work_mark(context, paths, n, path, hooks, counts, ret_target, reterr);
        if (r != -ESHUTDOWN) /* threads that hang use them */
                path_list_free(paths, n);
        return r;
}

static int list_parents(const char *path, char ***items, size_t *n) {
        _cleanup_free_ char *parent = path_dirname(path);
        int r;

        if (!parent)
                return -ENOMEM;
        if (parent[0] == '\0')
                return 0;
        r = list_parents(parent, items, n);
        return r < 0 ? r : path_list_add(items, n, parent);
}

static int report_parents(Context *context, char **paths, size_t n, const WorkHooks *hooks) {
        _cleanup_(records_freep) Records *records = NULL;
        int r = records_load(context->records_fd, context->upper_fd, &records);

        for (size_t i = 0; r >= 0 && i < n; i++) {
                _cleanup_(directory_report_done) DirectoryReport report = { 0 };
                _cleanup_failure_ Failure f = FAILURE_INIT;

                if (audit_directory(context, records, paths[i], &report, &f) >= 0 &&
                    report.state == DIRECTORY_FINALIZED)
                        r = hooks->report(&report, hooks->userdata);
        }
        return r;
}

int work_mark_parents(
        Context *context, const char *path, const WorkHooks *hooks, WorkCounts *counts, Failure *reterr) {
        char **paths = NULL;
        size_t n = 0;
        int r = list_parents(path, &paths, &n);

        if (r >= 0)
                r = work_mark(context, paths, n, NULL, hooks, counts, NULL, reterr);
        if (r == -ESHUTDOWN)
                return r;
        if (r >= 0)
                r = report_parents(context, paths, n, hooks);
        path_list_free(paths, n);
        return r < 0 ? failure_set_errno(reterr, r, "cannot mark the directories above '%s'", path) : 0;
}

static int plan(char **paths, size_t n, const WorkHooks *hooks) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < n; i++)
                r = hooks->step(
                        &(PlanStep){
                                .name = "mark",
                                .path = paths[i],
                                .text = "copy up its entries, write redirects, see that nothing of it is in "
                                        "use, make it opaque",
                        },
                        hooks->userdata);
        return r;
}

int work_mark_plan(Context *context, const char *path, const WorkHooks *hooks, Failure *reterr) {
        char **paths = NULL;
        size_t n = 0;
        int r = context->options.want_parents ? list_parents(path, &paths, &n) : 0;

        if (r >= 0 && context_wants_mark(context))
                r = mark_list(context, path, context->options.depth, &paths, &n);
        if (r >= 0)
                r = plan(paths, n, hooks);
        path_list_free(paths, n);
        return r < 0 ? failure_set_errno(reterr, r, "cannot plan '%s'", path) : 0;
}
