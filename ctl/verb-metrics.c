/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* metrics: numbers for a monitoring system, as OpenMetrics text. What the daemon counts comes from it; the
 * space of upper file systems is looked at here, since the daemon touches no file of an overlay. One
 * document or none: all is fetched before a line is printed. */
#include <inttypes.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/states.h"
#include "base/utf8.h"
#include "ctl/mountstats.h"
#include "ctl/verbs.h"
#include "dbus/names.h"

typedef struct Family {
        const char *name;
        const char *type;
        const char *help;
        const char *counter; /* the key of the overlay's counters it is; NULL if made here */
        const char *label;   /* what it has besides "overlay" */
        const char *value;   /* of that label, for a counter */
} Family;

/* Those of one name stand together, and only the first has a text. man/expand reads this. */
static const Family families[] = {
        { "ovlfind_build_info", "gauge", "The version of the daemon", NULL, "version", NULL },
        { "ovlfind_overlay_state", "gauge", "1 for the state an overlay is in", NULL, "state", NULL },
        { "ovlfind_overlay_paused", "gauge", "1 when no jobs of an overlay start", NULL, NULL, NULL },
        { "ovlfind_directories", "gauge", "Directories by state, but for merged ones", NULL, "state", NULL },
        { "ovlfind_old_trees", "gauge", "Old trees kept because processes stand in them", NULL, NULL, NULL },
        { "ovlfind_jobs", "gauge", "Jobs that have not ended", NULL, "state", NULL },
        { "ovlfind_jobs_ended", "counter", "Jobs that have ended", "jobs_done", "result", "done" },
        { "ovlfind_jobs_ended", "counter", NULL, "jobs_failed", "result", "failed" },
        { "ovlfind_jobs_ended", "counter", NULL, "jobs_canceled", "result", "canceled" },
        { "ovlfind_directories_finalized", "counter", "Directories that became finalized",
          "directories_finalized", NULL, NULL },
        { "ovlfind_entries", "counter", "Entries taken care of by jobs", "entries", NULL, NULL },
        { "ovlfind_copied_bytes", "counter", "Data written to the upper layer", "bytes", NULL, NULL },
        { "ovlfind_job_seconds", "counter", "Time jobs took", "job_usec", NULL, NULL },
        { "ovlfind_swaps", "counter", "Swaps of superblocks that have ended", "swaps_done", "result",
          "done" },
        { "ovlfind_swaps", "counter", NULL, "swaps_failed", "result", "failed" },
        { "ovlfind_swaps", "counter", NULL, "swaps_canceled", "result", "canceled" },
        { "ovlfind_lower_answer_seconds", "histogram",
          "Time to copy up the metadata of an entry: how fast the lower layers answer", NULL, "le", NULL },
        { "ovlfind_workers_died", "counter", "Workers that were killed or crashed", "workers_died", NULL,
          NULL },
        { "ovlfind_repairs", "counter", "What was put in order after a crash or kill", "repairs", NULL,
          NULL },
        { "ovlfind_source", "gauge", "1 when a source of heat is at work", NULL, "source", NULL },
        { "ovlfind_searches", "counter", "Directories programs began to search", "searches", NULL, NULL },
        { "ovlfind_misses", "counter",
          "Lookups that found nothing, by whether a lower layer was asked; only where they are counted",
          "misses", "answer", "lower" },
        { "ovlfind_misses", "counter", NULL, "saved", "answer", "upper" },
        { "ovlfind_nfs_lookups", "counter",
          "Lookups of the NFS mount of the first lower layer, whoever asked; where misses are not counted",
          NULL, NULL, NULL },
        { "ovlfind_nfs_lookup_errors", "counter", "Those of them that were answered with an error", NULL,
          NULL, NULL },
        { "ovlfind_upper_size_bytes", "gauge", "Size of the upper file system", NULL, NULL, NULL },
        { "ovlfind_upper_free_bytes", "gauge", "What is free of it", NULL, NULL, NULL },
        { "ovlfind_upper_size_inodes", "gauge", "Inodes of the upper file system; 0: no limit", NULL, NULL,
          NULL },
        { "ovlfind_upper_free_inodes", "gauge", "What is free of them", NULL, NULL, NULL },
};

typedef struct Snapshot {
        Record manager;
        RecordList overlays;
        RecordList jobs;
        bool is_remote; /* its file systems are not seen from here */
} Snapshot;

static void snapshot_done(Snapshot *s) {
        record_done(&s->manager);
        record_list_done(&s->overlays);
        record_list_done(&s->jobs);
}

static int snapshot_read(Ctl *c, Snapshot *s) {
        int r;

        s->is_remote = endpoint_is_remote(&c->client.endpoint);
        r = client_get_all(&c->client, OVLFIND_OBJECT_PATH, OVLFIND_MANAGER_INTERFACE, &s->manager);
        if (r >= 0)
                r = client_list(&c->client, "ListOverlays", OVLFIND_OVERLAY_INTERFACE, &s->overlays);
        for (size_t i = 0; i < s->overlays.n && r >= 0 && !s->is_remote; i++)
                mountstats_add(&s->overlays.items[i]);
        return r < 0 ? r : client_list(&c->client, "ListJobs", OVLFIND_JOB_INTERFACE, &s->jobs);
}

/* A sample, with the keys that --json shows; a key says its unit. */
static int add_sample(
        RecordList *l,
        const char *name,
        const char *overlay,
        const char *label,
        const char *label_value,
        const char *value_key,
        uint64_t value) {
        _cleanup_record_ Record sample = { 0 };

        record_set_string(&sample, "name", name);
        if (overlay)
                record_set_string(&sample, "overlay", overlay);
        if (label)
                record_set_string(&sample, label, label_value);
        record_set_number(&sample, value_key, value);
        return record_list_take(l, &sample);
}

static int add(RecordList *l, const Family *f, const char *overlay, const char *label, uint64_t value) {
        return add_sample(
                l, f->name, overlay, f->label, label, strstr(f->name, "_seconds") ? "value_usec" : "value",
                value);
}

static int add_states(RecordList *l, const Family *f, const char *name, const char *state) {
        static const char *const states[] = { "absent", "starting", "active", "refused" };
        int r = 0;

        for (size_t i = 0; i < ELEMENTSOF(states) && r >= 0; i++)
                r = add(l, f, name, states[i], strcmp(states[i], state) == 0);
        return r;
}

static int add_directories(RecordList *l, const Family *f, const char *name, const Record *overlay) {
        const RecordList *counts = record_get_list(overlay, "directories");
        int r = 0;

        for (DirectoryState s = 0; s < _DIRECTORY_STATE_MAX && r >= 0; s++) {
                const char *state = directory_state_to_string(s);

                if (s != DIRECTORY_MERGED)
                        r = add(l, f, name, state,
                                counts->n > 0 ? record_get_number(counts->items, state, 0) : 0);
        }
        return r;
}

static int add_jobs(RecordList *l, const Family *f, const char *name, const RecordList *jobs) {
        int r = 0;

        for (JobState s = 0; s < _JOB_STATE_MAX && r >= 0; s++) {
                uint64_t n = 0;

                if (job_state_is_final(s))
                        continue;
                for (size_t i = 0; i < jobs->n; i++)
                        n += record_is(&jobs->items[i], "overlay", name) &&
                                record_is(&jobs->items[i], "state", job_state_to_string(s));
                r = add(l, f, name, job_state_to_string(s), n);
        }
        return r;
}

/* Not at all for an overlay whose upper cannot be looked at from here. */
static int add_space(RecordList *l, const Family *f, const char *name, const Record *overlay) {
        _cleanup_free_ char *upper = utf8_unescape(record_get_string(overlay, "upper_dir") ?: "");
        bool is_size = strstr(f->name, "_size_"), is_bytes = strstr(f->name, "_bytes");
        struct statvfs v;

        if (!upper)
                return -ENOMEM;
        if (!*upper || statvfs(upper, &v) < 0)
                return 0;
        if (is_bytes)
                return add(l, f, name, NULL, (is_size ? v.f_blocks : v.f_bavail) * (uint64_t) v.f_frsize);
        return add(l, f, name, NULL, is_size ? v.f_files : v.f_favail);
}

/* The bound of a class, in microseconds, as the standard wants it: seconds, with a point and no zeros at the
 * end but one. */
static void format_bound(const char *usec, char *ret, size_t size) {
        uint64_t n = strtoull(usec, NULL, 10);
        size_t end;

        (void) snprintf(ret, size, "%" PRIu64 ".%06" PRIu64, n / USEC_PER_SEC, n % USEC_PER_SEC);
        for (end = strlen(ret); ret[end - 1] == '0' && ret[end - 2] != '.'; end--)
                ret[end - 1] = '\0';
}

/* The daemon says how many answers took at most so long. */
static int add_answers(RecordList *l, const Family *f, const char *name, const Record *overlay) {
        const RecordList *answers = record_get_list(overlay, "lower_answers");
        const Record *a = answers->items;
        int r = 0;

        if (answers->n == 0)
                return 0;
        for (size_t i = 0; i < a->n && r >= 0; i++) {
                const char *key = a->fields[i].key;
                char bound[64] = "+Inf";

                if (strcmp(key, "sum") == 0)
                        continue;
                if (strcmp(key, "infinity") != 0)
                        format_bound(key, bound, sizeof(bound));
                r = add_sample(
                        l, "ovlfind_lower_answer_seconds_bucket", name, f->label, bound, "value",
                        record_get_number(a, key, 0));
        }
        if (r >= 0)
                r = add_sample(
                        l, "ovlfind_lower_answer_seconds_count", name, NULL, NULL, "value",
                        record_get_number(a, "infinity", 0));
        return r < 0 ? r
                     : add_sample(
                               l, "ovlfind_lower_answer_seconds_sum", name, NULL, NULL, "value_usec",
                               record_get_number(a, "sum", 0));
}

static int add_sources(RecordList *l, const Family *f, const char *name, const Record *overlay) {
        const RecordList *sources = record_get_list(overlay, "sources");
        int r = 0;

        for (size_t i = 0; i < sources->n && r >= 0; i++) {
                const Record *s = &sources->items[i];

                r = add(l, f, name, record_get_string(s, "name") ?: "?",
                        record_is(s, "state", "on") || record_is(s, "state", "partly"));
        }
        return r;
}

static int add_nfs(RecordList *l, const Family *f, const char *name, const Record *overlay) {
        const Value *n = record_get(overlay, f->name + strlen("ovlfind_"));

        return n ? add(l, f, name, NULL, n->number) : 0;
}

/* Numbers that nobody counts are no zeros. */
static bool is_counted(const Family *f, const RecordList *counters) {
        return counters->n > 0 &&
                (strcmp(f->name, "ovlfind_misses") != 0 || record_get(counters->items, "counted_usec"));
}

static int add_of_overlay(RecordList *l, const Family *f, const Record *overlay, const Snapshot *s) {
        const RecordList *counters = record_get_list(overlay, "counters");
        const char *name = record_get_string(overlay, "name") ?: "?";

        if (strcmp(f->name, "ovlfind_source") == 0)
                return add_sources(l, f, name, overlay);
        if (strncmp(f->name, "ovlfind_nfs_", strlen("ovlfind_nfs_")) == 0)
                return add_nfs(l, f, name, overlay);
        if (f->counter)
                return is_counted(f, counters)
                        ? add(l, f, name, f->value, record_get_number(counters->items, f->counter, 0))
                        : 0;
        if (strcmp(f->name, "ovlfind_overlay_state") == 0)
                return add_states(l, f, name, record_get_string(overlay, "state") ?: "");
        if (strcmp(f->name, "ovlfind_overlay_paused") == 0)
                return add(l, f, name, NULL, record_get_boolean(overlay, "paused"));
        if (strcmp(f->name, "ovlfind_directories") == 0)
                return add_directories(l, f, name, overlay);
        if (strcmp(f->name, "ovlfind_old_trees") == 0)
                return add(l, f, name, NULL, record_get_number(overlay, "n_kept", 0));
        if (strcmp(f->name, "ovlfind_jobs") == 0)
                return add_jobs(l, f, name, &s->jobs);
        if (strcmp(f->type, "histogram") == 0)
                return add_answers(l, f, name, overlay);
        return s->is_remote ? 0 : add_space(l, f, name, overlay);
}

static int add_family(RecordList *l, const Family *f, const Snapshot *s) {
        int r = 0;

        if (strcmp(f->name, "ovlfind_build_info") == 0)
                return add(l, f, NULL, record_get_string(&s->manager, "version") ?: "?", 1);
        for (size_t i = 0; i < s->overlays.n && r >= 0; i++)
                r = add_of_overlay(l, f, &s->overlays.items[i], s);
        return r;
}

static void print_label(const char *key, const char *value, bool *is_first) {
        (void) printf("%s%s=\"", *is_first ? "{" : ",", key);
        *is_first = false;
        for (; *value; value++)
                if (*value == '\n')
                        (void) fputs("\\n", stdout);
                else
                        (void) printf("%s%c", *value == '"' || *value == '\\' ? "\\" : "", *value);
        (void) putchar('"');
}

static void print_sample(const Family *f, const Record *sample) {
        const char *overlay = record_get_string(sample, "overlay");
        const char *label = f->label ? record_get_string(sample, f->label) : NULL;
        const Value *usec = record_get(sample, "value_usec");
        bool is_first = true;

        (void) printf(
                "%s%s", record_get_string(sample, "name"), strcmp(f->type, "counter") == 0 ? "_total" : "");
        if (overlay)
                print_label("overlay", overlay, &is_first);
        if (label)
                print_label(f->label, label, &is_first);
        if (usec)
                (void) printf(
                        "} %" PRIu64 ".%06" PRIu64 "\n", usec->number / USEC_PER_SEC,
                        usec->number % USEC_PER_SEC);
        else
                (void) printf("} %" PRIu64 "\n", record_get_number(sample, "value", 0));
}

static void print_family(const Family *f, const RecordList *samples) {
        if (f->help)
                (void) printf("# TYPE %s %s\n# HELP %s %s.\n", f->name, f->type, f->name, f->help);
        for (size_t i = 0; i < samples->n; i++)
                print_sample(f, &samples->items[i]);
}

int verb_metrics(Ctl *c, int argc, char **argv) {
        _cleanup_record_list_ RecordList all = { 0 };
        _cleanup_(snapshot_done) Snapshot s = { 0 };
        int r;

        r = snapshot_read(c, &s);
        if (r < 0)
                return client_report(&c->client, r, "read the metrics");
        for (size_t i = 0; i < ELEMENTSOF(families) && r >= 0; i++) {
                _cleanup_record_list_ RecordList samples = { 0 };
                RecordList *l = c->options.json != JSON_OFF ? &all : &samples;

                r = add_family(l, &families[i], &s);
                if (r >= 0 && c->options.json == JSON_OFF)
                        print_family(&families[i], &samples);
        }
        if (r >= 0 && c->options.json != JSON_OFF)
                r = ctl_print_json(c, "metrics", &all);
        else if (r >= 0)
                (void) puts("# EOF");
        return r < 0 ? print_oom() : EXIT_CODE_OK;
}
