/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* verify, of a mounted overlay or of layers alone: problems as records. What is a problem core says, what
 * it means and what to do about it its table (core/verify/problem.c). Without WIRE_REPAIR nothing is
 * changed; of layers alone no records are read. */
#include <fcntl.h>
#include <string.h>

#include "core/check/unmounted.h"
#include "core/lower/lower.h"
#include "core/verify/verify.h"
#include "worker/worker.h"

static int send_problem(const Problem *p, void *userdata) {
        const ProblemInfo *info = problem_info(p->kind);
        WireRecord r = { .kind = WIRE_PROBLEM, .state = p->is_repaired };

        wire_set(r.name, info->id);
        wire_set(r.path, p->path);
        wire_set(r.text, info->consequence);
        if (p->detail) {
                size_t n = strlen(r.text);

                (void) snprintf(r.text + n, sizeof(r.text) - n, " (%s)", p->detail);
        }
        wire_set(r.lower_path, p->is_repaired ? "" : info->cure);
        return wire_send(WORKER_FD, &r);
}

static int run(Worker *w, const Records *records, const char *path, Failure *reterr) {
        _cleanup_(lower_done) Lower lower = LOWER_INIT;
        Verify v = {
                .context = &w->context,
                .records = records,
                .lower = &lower,
                .path = path,
                .want_repair = worker_asks_for(w, WIRE_REPAIR),
                .func = send_problem,
        };
        int r = w->context.root_fd >= 0 ? lower_open(&w->context, &lower, reterr)
                                        : lower_open_given(&w->context, &lower, reterr);

        if (r >= 0)
                r = verify_run(&v, reterr);
        w->counts.n_entries = v.n_entries;
        w->counts.n_directories = v.n_repaired;
        w->counts.n_excluded = v.n_problems - v.n_repaired;
        return r;
}

int worker_verify(Worker *w, const char *path, Failure *reterr) {
        _cleanup_(records_freep) Records *records = NULL;
        int r = context_load_records(&w->context, &records, reterr);

        return r < 0 ? r : run(w, records, path, reterr);
}

int worker_verify_offline(Worker *w, const char *path, Failure *reterr) {
        const char *upper = wire_request_get(&w->request, WIRE_UPPER_DIR),
                   *lower = wire_request_get(&w->request, WIRE_LOWER_DIR);
        int r;

        if (!upper || !lower)
                return failure_set(reterr, FAILURE_INVALID, EINVAL, "no layers were given");
        r = overlay_load_unmounted(
                lower, upper, wire_request_get(&w->request, WIRE_WORK_DIR), &w->overlay, reterr);
        if (r < 0)
                return r;
        w->context.overlay = w->overlay;
        w->context.observer = w->observer;
        w->context.upper_fd = open(upper, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (w->context.upper_fd < 0)
                return failure_set_errno(reterr, -errno, "cannot open the upper layer '%s'", upper);
        return run(w, /* records= */ NULL, path, reterr);
}
