/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the worker of a job is asked for: what belongs to the overlay (overlays/request.c), then what the job
 * was asked for, or what is configured where it was not. It only fills the request, and changes neither the
 * job nor the overlay; run.c starts the worker with it. */
#include "jobs/run-request.h"

static int add_remount(const Managed *o, const Job *j, WireRequest *q) {
        const JobOptions *options = &j->options;
        int r = wire_request_add(q, WIRE_REMOUNT, remount_method_to_string(options->remount));

        if (r >= 0 && options->set)
                r = wire_request_add(q, WIRE_SET, options->set);
        if (r >= 0 && o->config->settings.may_cover_old)
                r = wire_request_add(q, WIRE_COVER, "1");
        return r;
}

static bool is_forced(const Managed *o, const Job *j) {
        return j->options.is_forced ||
                (j->type == JOB_REMOUNT && o->config->settings.remount_blockers == REMOUNT_BLOCKERS_IGNORE);
}

/* What was asked for, or else what is configured. */
static Method wanted_method(const Managed *o, const Job *j) {
        return j->options.has_method ? j->options.method : (Method) o->config->settings.method;
}

bool run_wants_parents(const Managed *o, const Job *j) {
        return j->options.want_parents ||
                (o->config->settings.want_parents && wanted_method(o, j) != METHOD_EXCHANGE);
}

static int add_method(const Managed *o, const Job *j, WireRequest *q) {
        const JobOptions *options = &j->options;
        StandingPolicy standing =
                options->has_standing ? options->standing : (StandingPolicy) o->config->settings.standing;
        int r;

        r = wire_request_add(q, WIRE_METHOD, method_to_string(wanted_method(o, j)));
        if (r >= 0)
                r = wire_request_add(q, WIRE_STANDING, standing_to_string(standing));
        if (r >= 0 && options->has_depth)
                r = wire_request_addf(q, WIRE_DEPTH, "%u", options->depth);
        if (r >= 0 && run_wants_parents(o, j))
                r = wire_request_add(q, WIRE_PARENTS, "1");
        return r;
}

int run_make_request(const Managed *o, const Job *j, WireRequest *q) {
        const JobOptions *options = &j->options;
        uint64_t data_bytes = options->has_data ? options->data_bytes : o->config->settings.data_max_bytes;
        int r;

        r = managed_make_request(o, j->type, j->path, q);
        if (r >= 0 && options->is_dry_run)
                r = wire_request_add(q, WIRE_DRY_RUN, "1");
        if (r >= 0 && is_forced(o, j))
                r = wire_request_add(q, WIRE_FORCE, "1");
        if (r >= 0)
                r = j->type == JOB_REMOUNT ? add_remount(o, j, q) : add_method(o, j, q);
        if (r >= 0 && !job_is_unasked(j))
                r = wire_request_add(q, WIRE_ASKED, "1");
        if (r >= 0 && j->is_automatic)
                r = managed_make_background(o, q);
        if (r >= 0 && options->is_repair)
                r = wire_request_add(q, WIRE_REPAIR, "1");
        if (r >= 0 && j->type == JOB_FINALIZE && data_bytes > 0)
                r = wire_request_addf(q, WIRE_DATA_BYTES, "%llu", (unsigned long long) data_bytes);
        return r;
}
