/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What workers are asked for, with all they have to know of an overlay: its layers as configured, and its
 * limits. What belongs to one kind of work only, whoever starts that adds. A worker reads no configuration;
 * what is not in the request has the default of core. */
#include "overlays/managed.h"
#include "service/strv.h"

static int add_optional(WireRequest *q, const char *key, const char *value) {
        return value ? wire_request_add(q, key, value) : 0;
}

static int add_floor(WireRequest *q, const char *key, const Amount *a) {
        return wire_request_addf(q, key, "%llu%s", (unsigned long long) a->value, a->is_percent ? "%" : "");
}

/* Small files are no reason to leave what people see as it was. */
#define REFRESH_BYTES_LEAST (UINT64_C(1) << 20)

static int add_refresh_bytes(const Settings *s, WireRequest *q) {
        uint64_t n = s->data_max_bytes < REFRESH_BYTES_LEAST ? REFRESH_BYTES_LEAST : s->data_max_bytes;

        return n == UINT64_MAX || s->on_lower_change != LOWER_CHANGE_REFRESH
                ? 0
                : wire_request_addf(q, WIRE_REFRESH_BYTES, "%llu", (unsigned long long) n);
}

static int add_restraints(const Settings *s, WireRequest *q) {
        _cleanup_free_ char *exclude = strv_join(s->exclude);
        int r;

        if (!exclude)
                return -ENOMEM;
        if ((s->workers == 0 && (r = wire_request_add(q, WIRE_ADAPT, "1")) < 0) ||
            (s->entries_per_second != UINT64_MAX &&
             (r = wire_request_addf(q, WIRE_RATE, "%llu", (unsigned long long) s->entries_per_second)) <
                     0) ||
            (r = add_refresh_bytes(s, q)) < 0 ||
            (exclude[0] && (r = wire_request_add(q, WIRE_EXCLUDE, exclude)) < 0) ||
            (r = add_floor(q, WIRE_MIN_FREE_SPACE, &s->min_free_space)) < 0)
                return r;
        return add_floor(q, WIRE_MIN_FREE_INODES, &s->min_free_inodes);
}

int managed_make_background(const Managed *o, WireRequest *q) {
        uint64_t most = o->config->settings.max_entries;
        int r = wire_request_add(q, WIRE_BACKGROUND, "1");

        return r < 0 || most == UINT64_MAX
                ? r
                : wire_request_addf(q, WIRE_MAX_ENTRIES, "%llu", (unsigned long long) most);
}

int managed_make_request(const Managed *o, JobType verb, const char *path, WireRequest *q) {
        const OverlayConfig *c = o->config;
        const Settings *s = &c->settings;
        int r;

        if ((r = wire_request_add(q, WIRE_VERB, job_type_to_string(verb))) < 0 ||
            (r = wire_request_add(q, WIRE_OVERLAY, c->name)) < 0 ||
            (r = wire_request_add(q, WIRE_MOUNT_POINT, c->mount_point)) < 0 ||
            (r = wire_request_add(q, WIRE_PATH, path)) < 0 ||
            (r = wire_request_add(q, WIRE_STATE_DIR, o->host->state_dir)) < 0 ||
            (r = add_optional(q, WIRE_LOWER_DIR, c->lower)) < 0 ||
            (r = add_optional(q, WIRE_UPPER_DIR, c->upper)) < 0 ||
            (r = add_optional(q, WIRE_WORK_DIR, c->work)) < 0 ||
            (r = wire_request_addf(q, WIRE_QUIET_USEC, "%llu", (unsigned long long) s->quiet_usec)) < 0 ||
            (r = wire_request_add(q, WIRE_HARD_LINKS, hard_links_to_string(s->hard_links))) < 0 ||
            (r = wire_request_addf(q, WIRE_WORKERS, "%u", settings_worker_threads(s))) < 0)
                return r;
        return add_restraints(s, q);
}

DirectoryInfo directory_info_from_record(const WireRecord *r) {
        return (DirectoryInfo){
                .path = r->path,
                .state = (DirectoryState) r->state,
                .reason = r->text,
                .scheme = r->name,
                .lower_path = r->lower_path,
                .entries = r->entries_total,
                .merge_children = r->merge_children,
                .finalized_usec = r->usec,
        };
}
