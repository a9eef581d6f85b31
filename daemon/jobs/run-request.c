/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the worker of a job is asked for: what belongs to the overlay (overlays/request.c), then what the job
 * was asked for, or what is configured where it was not. It only fills the request, and changes neither the
 * job nor the overlay; run.c starts the worker with it. */
#include "jobs/run-request.h"

static void add_remount(const Managed *o, const Job *j, WireRequest *q) {
        wire_request_add(q, WIRE_REMOUNT, remount_method_to_string(j->options.remount));
        wire_request_add_optional(q, WIRE_SET, j->options.set);
        wire_request_add_flag(q, WIRE_COVER, o->config->settings.may_cover_old);
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

static void add_method(const Managed *o, const Job *j, WireRequest *q) {
        const JobOptions *options = &j->options;
        StandingPolicy standing =
                options->has_standing ? options->standing : (StandingPolicy) o->config->settings.standing;

        wire_request_add(q, WIRE_METHOD, method_to_string(wanted_method(o, j)));
        wire_request_add(q, WIRE_STANDING, standing_to_string(standing));
        if (options->has_depth)
                wire_request_add_number(q, WIRE_DEPTH, options->depth);
        wire_request_add_flag(q, WIRE_PARENTS, run_wants_parents(o, j));
}

void run_make_request(const Managed *o, const Job *j, WireRequest *q) {
        const JobOptions *options = &j->options;
        uint64_t data_bytes = options->has_data ? options->data_bytes : o->config->settings.data_max_bytes;

        managed_make_request(o, j->type, j->path, q);
        if (j->type == JOB_REMOUNT)
                add_remount(o, j, q);
        else
                add_method(o, j, q);
        if (j->is_automatic)
                managed_make_background(o, q);
        wire_request_add_flag(q, WIRE_DRY_RUN, options->is_dry_run);
        wire_request_add_flag(q, WIRE_FORCE, is_forced(o, j));
        wire_request_add_flag(q, WIRE_ASKED, !job_is_unasked(j));
        wire_request_add_flag(q, WIRE_REPAIR, options->is_repair);
        if (j->type == JOB_FINALIZE && data_bytes > 0)
                wire_request_add_number(q, WIRE_DATA_BYTES, data_bytes);
}
