/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What workers are asked for, with all they have to know of an overlay: its layers as configured, and its
 * limits. What belongs to one kind of work only, whoever starts that adds. A worker reads no configuration;
 * what is not in the request has the default of core. */
#include "base/strv.h"
#include "overlays/managed.h"

static void add_floor(WireRequest *q, const char *key, const Amount *a) {
        char text[32];

        (void) snprintf(
                text, sizeof(text), "%llu%s", (unsigned long long) a->value, a->is_percent ? "%" : "");
        wire_request_add(q, key, text);
}

/* Small files are no reason to leave what people see as it was. */
#define REFRESH_BYTES_LEAST (UINT64_C(1) << 20)

static void add_refresh_bytes(const Settings *s, WireRequest *q) {
        uint64_t n = s->data_max_bytes < REFRESH_BYTES_LEAST ? REFRESH_BYTES_LEAST : s->data_max_bytes;

        if (n != UINT64_MAX && s->on_lower_change == LOWER_CHANGE_REFRESH)
                wire_request_add_number(q, WIRE_REFRESH_BYTES, n);
}

static void add_restraints(const Settings *s, WireRequest *q) {
        _cleanup_free_ char *exclude = strv_join(s->exclude);

        if (!exclude)
                q->error = -ENOMEM;
        else if (exclude[0])
                wire_request_add(q, WIRE_EXCLUDE, exclude);
        wire_request_add_flag(q, WIRE_ADAPT, s->workers == 0);
        if (s->entries_per_second != UINT64_MAX)
                wire_request_add_number(q, WIRE_RATE, s->entries_per_second);
        add_refresh_bytes(s, q);
        add_floor(q, WIRE_MIN_FREE_SPACE, &s->min_free_space);
        add_floor(q, WIRE_MIN_FREE_INODES, &s->min_free_inodes);
}

void managed_make_background(const Managed *o, WireRequest *q) {
        uint64_t most = o->config->settings.max_entries;

        wire_request_add(q, WIRE_BACKGROUND, "1");
        if (most != UINT64_MAX)
                wire_request_add_number(q, WIRE_MAX_ENTRIES, most);
}

void managed_make_request(const Managed *o, JobType verb, const char *path, WireRequest *q) {
        const OverlayConfig *c = o->config;
        const Settings *s = &c->settings;

        wire_request_add(q, WIRE_VERB, job_type_to_string(verb));
        wire_request_add(q, WIRE_OVERLAY, c->name);
        wire_request_add(q, WIRE_MOUNT_POINT, c->mount_point);
        wire_request_add(q, WIRE_PATH, path);
        wire_request_add(q, WIRE_STATE_DIR, o->host->state_dir);
        wire_request_add_optional(q, WIRE_LOWER_DIR, c->lower);
        wire_request_add_optional(q, WIRE_UPPER_DIR, c->upper);
        wire_request_add_optional(q, WIRE_WORK_DIR, c->work);
        wire_request_add_number(q, WIRE_QUIET_USEC, s->quiet_usec);
        wire_request_add(q, WIRE_HARD_LINKS, hard_links_to_string(s->hard_links));
        wire_request_add_number(q, WIRE_WORKERS, settings_worker_threads(s));
        add_restraints(s, q);
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
