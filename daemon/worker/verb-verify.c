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
        WireRecord r;

        wire_record_init(&r, WIRE_PROBLEM);
        r.state = p->is_mended;
        wire_set(r.name, info->id);
        wire_set(r.path, p->path);
        wire_set(r.text, info->consequence);
        if (p->detail) {
                size_t n = strlen(r.text);

                (void) snprintf(r.text + n, sizeof(r.text) - n, " (%s)", p->detail);
        }
        wire_set(r.lower_path, p->is_mended ? "" : info->cure);
        return wire_send(WORKER_FD, &r);
}

static int run(Worker *w, const Records *records, const char *path, Failure *reterr) {
        _cleanup_(lower_done) Lower lower = LOWER_INIT;
        Verify v = {
                .site = &w->site,
                .records = records,
                .lower = &lower,
                .path = path,
                .want_repair = worker_asks_for(w, WIRE_REPAIR),
                .func = send_problem,
        };
        int r = w->site.root_fd >= 0 ? lower_open(&w->site, &lower, reterr)
                                     : lower_open_given(&w->site, &lower, reterr);

        if (r >= 0)
                r = verify_run(&v, reterr);
        w->counts.n_entries = v.n_entries;
        w->counts.n_directories = v.n_mended;
        w->counts.n_excluded = v.n_problems - v.n_mended;
        return r;
}

int worker_verify(Worker *w, const char *path, Failure *reterr) {
        _cleanup_(records_freep) Records *records = NULL;
        int r = records_load(w->site.records_fd, w->site.upper_fd, &records);

        if (r < 0)
                return failure_set_errno(reterr, r, "cannot read the records of finalized directories");
        return run(w, records, path, reterr);
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
        w->site.overlay = w->overlay;
        w->site.observer = w->observer;
        w->site.upper_fd = open(upper, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (w->site.upper_fd < 0)
                return failure_set_errno(reterr, -errno, "cannot open the upper layer '%s'", upper);
        return run(w, /* records= */ NULL, path, reterr);
}
