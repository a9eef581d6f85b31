/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* compare, prune, refresh: the verbs about what has changed in the lower layers. What has changed, and what
 * may be done about it, core/release decides. What is left of it afterwards is compared anew, so that the
 * daemon hears the state of now, also after a failure half-way. */
#include "core/lower/lower.h"
#include "core/release/compare.h"
#include "core/release/prune.h"
#include "core/release/refresh.h"
#include "worker/worker.h"

int worker_compare(Worker *w, const char *path, const WorkHooks *hooks, Failure *reterr) {
        int r = compare_run(&w->context, path, hooks, reterr);

        return r < 0 ? r : worker_verify(w, path, reterr);
}

typedef int (*release_func)(Prune *p, const char *path, Failure *reterr);

static int run(Worker *w, release_func func, const char *path, const WorkHooks *hooks, Failure *reterr) {
        _cleanup_(records_freep) Records *records = NULL;
        _cleanup_(lower_done) Lower lower = LOWER_INIT;
        Prune p = {
                .context = &w->context,
                .editor = { .records_fd = w->context.records_fd },
                .lower = &lower,
                .hooks = hooks,
                .is_dry_run = worker_asks_for(w, WIRE_DRY_RUN),
        };
        int r = context_load_records(&w->context, &records, reterr);

        p.records = records;
        if (r >= 0)
                r = lower_open(&w->context, &lower, reterr);
        if (r >= 0)
                r = func(&p, path, reterr);
        record_editor_done(&p.editor);
        w->counts = p.counts;
        if (r >= 0 && !p.is_dry_run)
                r = records_prune(records, w->context.records_fd, w->context.upper_fd);
        /* What is left is told by its new state. */
        if (!p.is_dry_run && (r >= 0 || p.counts.n_entries > 0)) {
                int k = compare_run(&w->context, path, hooks, NULL);
                r = r < 0 ? r : k;
        }
        return r < 0 ? failure_set_errno(reterr, r, "cannot work on '%s'", path) : 0;
}

int worker_prune(Worker *w, const char *path, const WorkHooks *hooks, Failure *reterr) {
        return run(w, prune_run, path, hooks, reterr);
}

int worker_refresh(Worker *w, const char *path, const WorkHooks *hooks, Failure *reterr) {
        return run(w, refresh_run, path, hooks, reterr);
}
