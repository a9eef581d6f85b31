/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* status: the daemon and its overlays, one overlay, or one directory. What is asked for is fetched first,
 * then printed, so that --json gives one document. It draws no conclusion of its own: states and reasons
 * are the daemon's, and the section of the pages about them is named with them (docs.h). */
#include <inttypes.h>
#include <libsmartcols.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "base/utf8.h"
#include "ctl/docs.h"
#include "ctl/format.h"
#include "ctl/job.h"
#include "ctl/journal.h"
#include "ctl/json.h"
#include "ctl/mountstats.h"
#include "ctl/state-color.h"
#include "ctl/table.h"
#include "ctl/target.h"
#include "ctl/verbs.h"
#include "dbus/names.h"

#define LABEL_WIDTH 12 /* "Directories:" */

static const char *color_end(const Ctl *c, Color color) {
        return color == COLOR_NONE ? "" : term_color(&c->term, COLOR_NONE);
}

static void print_dot(const Ctl *c, Color color) {
        (void) printf("%s%s%s ", term_color(&c->term, color), term_dot(), term_color(&c->term, COLOR_NONE));
}

/* "  Label: text"; nothing for no text. The label repeats as blanks when it is "". */
static void print_line(const char *label, const char *text) {
        if (text && *text)
                (void) printf("%*s%s %s\n", LABEL_WIDTH, label, *label ? ":" : " ", text);
}

/* As the last of what it is about. */
static void print_docs(const char *page, const char *anchor) {
        (void) printf(
                "%*s: " DOCS_URI "%s%s%s\n", LABEL_WIDTH, "Docs", page, anchor ? "#" : "", anchor ?: "");
}

static int print_value(const Record *r, const char *label, const char *key) {
        _cleanup_free_ char *text = value_to_text(record_get(r, key));

        print_line(label, text);
        return text ? 0 : -ENOMEM;
}

/* Several strings: a line each below one label. */
static int print_strings(const Record *r, const char *label, const char *key) {
        for (char *const *s = record_get_strings(r, key); *s; s++) {
                _cleanup_free_ char *text = utf8_escape_line(*s);

                if (!text)
                        return -ENOMEM;
                print_line(label, text);
                label = "";
        }
        return 0;
}

static int print_state(const Ctl *c, const Record *r, Color color, const char *suffix) {
        _cleanup_free_ char *state = utf8_escape_line(record_get_string(r, "state") ?: "unknown"),
                            *reason = utf8_escape_line(record_get_string(r, "reason") ?: "");

        if (!state || !reason)
                return -ENOMEM;
        (void) printf(
                "%*s: %s%s%s%s\n", LABEL_WIDTH, "State",
                color == COLOR_NONE ? "" : term_color(&c->term, color), state, color_end(c, color), suffix);
        print_line("Reason", reason);
        return 0;
}

/* Jobs of an overlay (NULL: all) that are not finished, a line each. */
static int print_jobs(const RecordList *jobs, const char *overlay) {
        const char *label = "Jobs";

        for (size_t i = 0; i < jobs->n; i++) {
                _cleanup_free_ char *text = NULL;

                if (job_is_finished(&jobs->items[i]) ||
                    (overlay && !record_is(&jobs->items[i], "overlay", overlay)))
                        continue;
                text = job_describe(&jobs->items[i]);
                if (!text)
                        return -ENOMEM;
                print_line(label, text);
                label = "";
        }
        return 0;
}

/* Whether the option names a layer: those have lines of their own. */
static bool is_layer_option(const char *option, size_t n) {
        static const char *const names[] = { "lowerdir=", "lowerdir+=", "datadir+=", "upperdir=",
                                             "workdir=" };

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (n >= strlen(names[i]) && strncmp(option, names[i], strlen(names[i])) == 0)
                        return true;
        return false;
}

/* Up to the next comma that no backslash escapes. */
static size_t option_length(const char *s) {
        size_t n = 0;

        while (s[n] && s[n] != ',')
                n += s[n] == '\\' && s[n + 1] ? 2 : 1;
        return n;
}

static int print_options(const Record *o, const char *label, const char *key) {
        const char *options = record_get_string(o, key) ?: "";
        _cleanup_free_ char *kept = malloc(strlen(options) + 1), *text = NULL;
        char *end = kept;

        if (!kept)
                return -ENOMEM;
        for (const char *s = options; *s;) {
                size_t n = option_length(s);

                if (!is_layer_option(s, n)) {
                        if (end > kept)
                                *end++ = ',';
                        end = mempcpy(end, s, n);
                }
                s += n + (s[n] == ',');
        }
        *end = '\0';
        text = utf8_escape_line(kept);
        print_line(label, text);
        return text ? 0 : -ENOMEM;
}

/* Old superblocks after a swap, a line each. */
static int print_draining(const Record *o, const char *label, const char *key) {
        const RecordList *l = record_get_list(o, key);

        for (size_t i = 0; i < l->n; i++) {
                const Record *d = &l->items[i];
                _cleanup_free_ char *who = utf8_escape_line(record_get_string(d, "who") ?: "?"),
                                    *text = NULL;

                text = who ? str_format(
                                     "an old superblock%s, used by %s%s",
                                     record_get_boolean(d, "read_only") ? ", read-only" : "", who,
                                     record_get_number(d, "processes", 0) > 3 ? " and others" : "")
                           : NULL;
                if (!text)
                        return -ENOMEM;
                print_line(label, text);
                label = "";
        }
        return 0;
}

/* "2021 directories", or what is the matter. */
static int print_watching(const Record *o, const char *label, const char *key) {
        const char *state = record_get_string(o, key), *reason = record_get_string(o, "watching_reason");
        _cleanup_free_ char *known =
                format_quantity(record_get_number(o, "n_known", 0), "directory", "directories");
        _cleanup_free_ char *escaped = utf8_escape_line(reason ?: "");

        if (!known || !escaped)
                return -ENOMEM;
        if (!state || strcmp(state, "off") == 0)
                return 0;
        if (strcmp(state, "stalled") == 0)
                (void) printf("%*s: stalled: %s\n", LABEL_WIDTH, label, escaped);
        else
                (void) printf(
                        "%*s: %s%s%s%s\n", LABEL_WIDTH, label, known,
                        strcmp(state, "starting") == 0 ? " so far" : "", escaped[0] ? "; " : "", escaped);
        return 0;
}

/* "opens, paths", and a line for each that is wanted and not (quite) at work. */
static int print_sources(const Record *o, const char *label, const char *key) {
        const RecordList *l = record_get_list(o, key);
        _cleanup_free_ char *working = strdup("");

        for (size_t i = 0; i < l->n && working; i++) {
                const char *name = record_get_string(&l->items[i], "name") ?: "?";
                char *longer = str_format("%s%s%s", working, working[0] ? ", " : "", name);

                if (!record_is(&l->items[i], "state", "on")) {
                        free(longer);
                        continue;
                }
                free(working);
                working = longer;
        }
        if (!working)
                return -ENOMEM;
        if (working[0]) {
                print_line(label, working);
                label = "";
        }
        for (size_t i = 0; i < l->n; i++) {
                const Record *s = &l->items[i];
                const char *state = record_get_string(s, "state") ?: "?";
                _cleanup_free_ char *reason = utf8_escape_line(record_get_string(s, "reason") ?: ""),
                                    *text = NULL;

                if (strcmp(state, "on") == 0 || strcmp(state, "off") == 0)
                        continue;
                if (reason)
                        text = str_format(
                                "%s %s%s%s", record_get_string(s, "name") ?: "?", state,
                                reason[0] ? ": " : "", reason);
                if (!text)
                        return -ENOMEM;
                print_line(label, text);
                label = "";
        }
        return 0;
}

/* That it works, and what is left; nothing where it is not counted. */
static int print_misses(const Record *o, const char *label, const char *key) {
        const RecordList *l = record_get_list(o, key);
        const Record *c = l->items;
        uint64_t usec = l->n > 0 ? record_get_number(c, "counted_usec", 0) : 0, misses, saved;
        _cleanup_free_ char *text = NULL;

        if (usec == 0)
                return 0;
        misses = record_get_number(c, "misses", 0);
        saved = record_get_number(c, "saved", 0);
        text = str_format(
                "%.1f/s ask a lower layer, %" PRIu64 " %% do not (%" PRIu64 " since the start, %.0f a day)",
                (double) record_get_number(c, "misses_per_minute", 0) / 60,
                misses + saved > 0 ? saved * 100 / (misses + saved) : 0, saved,
                (double) saved * 86400 * USEC_PER_SEC / (double) usec);
        if (text)
                print_line(label, text);
        return text ? 0 : -ENOMEM;
}

static int print_nfs(const Record *o, const char *label, const char *key) {
        const Value *n = record_get(o, key), *errors = record_get(o, "nfs_lookup_errors");

        if (n && errors)
                (void) printf(
                        "%*s: %" PRIu64 " lookups, %" PRIu64
                        " of them in vain (whole mount, whoever asked)\n",
                        LABEL_WIDTH, label, n->number, errors->number);
        return 0;
}

static int print_unproved(const Record *o, const char *label, const char *key) {
        const char *unproved = record_get_string(o, key);
        int r = print_value(o, label, key);

        if (r >= 0 && unproved && *unproved)
                print_docs("checks.md", "lower-path");
        return r;
}

static int print_kept(const Record *o, const char *label, const char *key) {
        uint64_t n = record_get_number(o, key, 0);

        if (n > 0)
                (void) printf(
                        "%*s: %" PRIu64 " old tree%s, until the processes standing there leave\n",
                        LABEL_WIDTH, label, n, PLURAL(n));
        return 0;
}

static int print_overlay(const Ctl *c, const Record *o, const RecordList *jobs) {
        static const struct {
                int (*print)(const Record *o, const char *label, const char *key);
                const char *label, *key;
        } lines[] = {
                { print_strings, "Lower", "lower_dirs" },
                { print_strings, "Data", "data_dirs" },
                { print_unproved, "Unproved", "lower_unproved" },
                { print_value, "Upper", "upper_dir" },
                { print_value, "Work", "work_dir" },
                { print_options, "Options", "options" },
                { print_value, "Scheme", "scheme" },
                { print_value, "Directories", "directories" },
                { print_watching, "Watching", "watching" },
                { print_sources, "Sources", "sources" },
                { print_misses, "Misses", "counters" },
                { print_nfs, "NFS", "nfs_lookups" },
                { print_kept, "Kept", "n_kept" },
                { print_draining, "Draining", "draining" },
        };
        _cleanup_free_ char *name = utf8_escape_line(record_get_string(o, "name") ?: "?"),
                            *mount_point = utf8_escape_line(record_get_string(o, "mount_point") ?: "?");
        Color color = overlay_state_color(record_get_string(o, "state"));
        int r;

        if (!name || !mount_point)
                return -ENOMEM;
        print_dot(c, color);
        (void) printf("%s - overlay on %s\n", name, mount_point);
        r = print_state(c, o, color, record_get_boolean(o, "paused") ? " (paused)" : "");
        if (record_is(o, "state", "refused"))
                print_docs("checks.md", NULL);
        for (size_t i = 0; i < ELEMENTSOF(lines) && r >= 0; i++)
                r = lines[i].print(o, lines[i].label, lines[i].key);
        if (r >= 0)
                r = print_jobs(jobs, record_get_string(o, "name"));
        if (r >= 0 && record_get_string(o, "name"))
                journal_print_tail(c, record_get_string(o, "name"));
        return r;
}

/* "61, 50 of them need a lower layer" */
static int print_entries(const Record *d) {
        uint64_t n = record_get_number(d, "entries", 0), n_merge = record_get_number(d, "merge_children", 0);
        _cleanup_free_ char *text = n_merge > 0
                ? str_format("%" PRIu64 ", %" PRIu64 " of them need a lower layer", n, n_merge)
                : str_format("%" PRIu64, n);

        if (record_get(d, "entries"))
                print_line("Entries", text);
        return text ? 0 : -ENOMEM;
}

static int print_directory(const Ctl *c, const Record *d) {
        _cleanup_free_ char *path = utf8_escape_line(record_get_string(d, "path") ?: "?"),
                            *overlay = utf8_escape_line(record_get_string(d, "overlay") ?: "?"),
                            *when = NULL, *ago = NULL;
        uint64_t usec = record_get_number(d, "finalized_usec", 0), job = record_get_number(d, "job", 0);
        const char *state = record_get_string(d, "state"),
                   *docs = docs_find_reason(state, record_get_string(d, "reason"));
        Color color = directory_state_color(state);
        char since[128] = "";
        int r;

        if (usec > 0) {
                when = format_timestamp(usec);
                ago = format_ago(usec, now_realtime_usec());
                (void) snprintf(since, sizeof(since), " since %s; %s", when ?: "?", ago ?: "?");
        }
        if (!path || !overlay)
                return -ENOMEM;
        print_dot(c, color);
        (void) printf("%s - directory of overlay %s\n", path, overlay);
        r = print_state(c, d, color, since);
        if (docs)
                print_docs("reasons.md", docs);
        if (r >= 0)
                r = print_value(d, "Scheme", "scheme");
        if (r >= 0)
                r = print_value(d, "Lower path", "lower_path");
        if (r >= 0)
                r = print_entries(d);
        if (job > 0)
                (void) printf("%*s: %" PRIu64 "\n", LABEL_WIDTH, "Job", job);
        return r;
}

static char *dot_text(const Record *r) {
        return strdup(term_dot());
}

/* "2 jobs"; how many was counted beforehand. */
static char *jobs_text(const Record *r) {
        uint64_t n = record_get_number(r, "n_jobs", 0);

        return n > 0 ? format_quantity(n, "job", "jobs") : strdup("");
}

static int overlay_table(Ctl *c, RecordList *overlays, const RecordList *jobs) {
        static const TableColumn columns[] = {
                { "", "", 0, dot_text, overlay_state_color },
                { "NAME", "name", 0, NULL, NULL },
                { "MOUNTPOINT", "mount_point", SCOLS_FL_TRUNC, NULL, NULL },
                { "STATE", "state", 0, overlay_state_text, overlay_state_color },
                { "DIRECTORIES", "directories", SCOLS_FL_TRUNC, NULL, NULL },
                { "JOBS", "n_jobs", 0, jobs_text, NULL },
        };

        for (size_t i = 0; i < overlays->n; i++) {
                const char *name = record_get_string(&overlays->items[i], "name");
                uint64_t n = 0;

                for (size_t j = 0; j < jobs->n && name; j++)
                        n += record_is(&jobs->items[j], "overlay", name) &&
                                !job_is_finished(&jobs->items[j]);
                record_set_number(&overlays->items[i], "n_jobs", n);
                if (overlays->items[i].is_incomplete)
                        return -ENOMEM;
        }
        return table_print(c, columns, ELEMENTSOF(columns), overlays);
}

static int print_daemon(Ctl *c, const Record *m, RecordList *overlays, RecordList *jobs) {
        _cleanup_free_ char *version = utf8_escape_line(record_get_string(m, "version") ?: "?"),
                            *n_overlays = format_quantity(overlays->n, "overlay", "overlays"),
                            *n_finalized = format_quantity(
                                    record_get_number(m, "n_finalized", 0), "directory", "directories"),
                            *n_jobs = format_quantity(record_get_number(m, "n_jobs", 0), "job", "jobs");
        bool paused = record_get_boolean(m, "paused");
        Color color = paused ? COLOR_YELLOW : COLOR_GREEN;

        if (!version || !n_overlays || !n_finalized || !n_jobs)
                return -ENOMEM;
        print_dot(c, color);
        (void) printf("ovlfind %s - finalizes directories of live overlays\n", version);
        (void) printf(
                "%*s: %s%s%s, %s, %s finalized, %s\n", LABEL_WIDTH, "State", term_color(&c->term, color),
                paused ? "paused" : "running", color_end(c, color), n_overlays, n_finalized, n_jobs);
        if (overlays->n == 0)
                return 0;
        (void) putchar('\n');
        return overlay_table(c, overlays, jobs);
}

static int fetch_lists(Ctl *c, RecordList *ret_overlays, RecordList *ret_jobs) {
        int r;

        r = client_list(&c->client, "ListOverlays", OVLFIND_OVERLAY_INTERFACE, ret_overlays);
        if (r >= 0)
                r = client_list(&c->client, "ListJobs", OVLFIND_JOB_INTERFACE, ret_jobs);
        if (r < 0)
                return r;
        record_list_sort(ret_overlays, "name");
        record_list_sort(ret_jobs, "id");
        return 0;
}

static int status_daemon(Ctl *c) {
        _cleanup_record_list_ RecordList overlays = { 0 }, jobs = { 0 };
        _cleanup_record_ Record manager = { 0 };
        int r;

        r = client_get_all(&c->client, OVLFIND_OBJECT_PATH, OVLFIND_MANAGER_INTERFACE, &manager);
        if (r >= 0)
                r = fetch_lists(c, &overlays, &jobs);
        if (r < 0)
                return client_report(&c->client, r, "show the status");
        if (c->options.json != JSON_OFF)
                return ctl_print_json(c, "overlays", &overlays) < 0 ? print_oom() : EXIT_CODE_OK;
        term_open_pager(&c->term);
        return print_daemon(c, &manager, &overlays, &jobs) < 0 ? print_oom() : EXIT_CODE_OK;
}

/* What the arguments name, in their order: overlays have a "name", directories do not. */
typedef struct Subjects {
        RecordList overlays; /* all there are */
        RecordList jobs;
        RecordList found_overlays;
        RecordList found_directories;
        bool are_listed;
} Subjects;

static void subjects_done(Subjects *s) {
        record_list_done(&s->overlays);
        record_list_done(&s->jobs);
        record_list_done(&s->found_overlays);
        record_list_done(&s->found_directories);
}

static int add_directory(Ctl *c, const char *argument, Subjects *s) {
        _cleanup_record_ Record record = { 0 };
        int r = directory_get(c, "show the status of", argument, &record);

        if (r != 0)
                return r;
        return record_list_take(&s->found_directories, &record) < 0 ? print_oom() : EXIT_CODE_OK;
}

static int add_overlay(Ctl *c, const char *argument, Subjects *s) {
        Record *overlay;
        int r;

        if (!s->are_listed) {
                r = fetch_lists(c, &s->overlays, &s->jobs);
                if (r < 0)
                        return client_report(&c->client, r, "show the status of '%s'", argument);
                s->are_listed = true;
        }
        overlay = (Record *) overlay_find(&s->overlays, argument);
        if (!overlay) {
                print_error(
                        "cannot show the status of '%s': no such overlay; 'ovlfinctl list' shows them, and "
                        "a directory is "
                        "written './%s'",
                        argument, argument);
                return EXIT_CODE_NOT_MANAGED;
        }
        if (!endpoint_is_remote(&c->client.endpoint))
                mountstats_add(overlay);
        return record_list_take(&s->found_overlays, overlay) < 0 ? print_oom() : EXIT_CODE_OK;
}

static int print_subjects_text(Ctl *c, const Subjects *s) {
        int r = 0;

        if (s->found_overlays.n + s->found_directories.n > 0)
                term_open_pager(&c->term);
        for (size_t i = 0; i < s->found_overlays.n && r >= 0; i++) {
                if (i > 0)
                        (void) putchar('\n');
                r = print_overlay(c, &s->found_overlays.items[i], &s->jobs);
        }
        for (size_t i = 0; i < s->found_directories.n && r >= 0; i++) {
                if (i > 0 || s->found_overlays.n > 0)
                        (void) putchar('\n');
                r = print_directory(c, &s->found_directories.items[i]);
        }
        return r;
}

/* Both kinds in one document when both were asked for. */
static int print_subjects_json(Ctl *c, Subjects *s) {
        _cleanup_record_ Record top = { 0 };

        if (s->found_overlays.n > 0)
                record_take(
                        &top, "overlays",
                        (Value){ .type = VALUE_RECORDS, .list = TAKE_STRUCT(s->found_overlays) });
        if (s->found_directories.n > 0)
                record_take(
                        &top, "directories",
                        (Value){ .type = VALUE_RECORDS, .list = TAKE_STRUCT(s->found_directories) });
        if (top.n > 0 && !top.is_incomplete)
                json_print(stdout, c->options.json, &top);
        return record_error(&top);
}

int verb_status(Ctl *c, int argc, char **argv) {
        _cleanup_(subjects_done) Subjects s = { 0 };
        int code = EXIT_CODE_OK;

        if (argc == 0)
                return status_daemon(c);
        for (int i = 0; i < argc; i++) {
                int r = argument_is_path(argv[i]) ? add_directory(c, argv[i], &s)
                                                  : add_overlay(c, argv[i], &s);

                code = code == EXIT_CODE_OK ? r : code;
                if (r == EXIT_CODE_UNREACHABLE)
                        break;
        }
        if ((c->options.json != JSON_OFF ? print_subjects_json(c, &s) : print_subjects_text(c, &s)) < 0)
                return print_oom();
        return code;
}
