/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config/config.h"

#include <ctype.h>
#include <string.h>

#include "base/glob.h"
#include "base/path-util.h"
#include "base/states.h"
#include "base/str.h"
#include "base/strv.h"
#include "config/config-file.h"
#include "config/schedule.h"
#include "service/log.h"
#include "service/messages.h"
#include "service/spread.h"

#define WORKERS_MAX 256 /* what the worker accepts, see WIRE_WORKERS */

typedef int (*value_func)(const char *value, void *dest, const char *const *words);

typedef struct ConfigKey {
        const char *section;
        const char *name;
        value_func parse;
        size_t offset;
        const char *const *words;
        const char *later; /* value that has no effect yet in this version; NULL: all have */
} ConfigKey;

static const char *const hard_links_words[] = { "skip", "break", NULL };
static const char *const scheme_words[] = { "auto", "redirect", "finalized", NULL };
static const char *const method_words[] = { "auto", "exchange", "mark", NULL };
static const char *const standing_words[] = { "auto", "keep", "wait", NULL };
static const char *const lower_change_words[] = { "keep", "refresh", NULL };
static const char *const lower_removed_words[] = { "keep", "prune", NULL };
static const char *const blockers_words[] = { "wait", "ignore", NULL };

const char *hard_links_to_string(int v) {
        return hard_links_words[v];
}

static int parse_bool(const char *value, void *dest, const char *const *words) {
        return value_parse_bool(value, dest);
}

static int parse_count(const char *value, void *dest, const char *const *words) {
        return value_parse_uint(value, dest);
}

static int parse_count_or_infinity(const char *value, void *dest, const char *const *words) {
        if (strcmp(value, "infinity") != 0)
                return value_parse_uint(value, dest);
        *(uint64_t *) dest = UINT64_MAX;
        return 0;
}

static int parse_rate(const char *value, void *dest, const char *const *words) {
        uint64_t v;
        int r = parse_count_or_infinity(value, &v, words);

        if (r < 0 || v == 0)
                return r < 0 ? r : -ERANGE;
        *(uint64_t *) dest = v;
        return 0;
}

static int parse_timespan(const char *value, void *dest, const char *const *words) {
        return value_parse_timespan(value, dest);
}

/* One that ends. */
static int parse_delay(const char *value, void *dest, const char *const *words) {
        uint64_t usec;
        int r = value_parse_timespan(value, &usec);

        if (r < 0 || usec > SPREAD_MAX_USEC)
                return r < 0 ? r : -ERANGE;
        *(uint64_t *) dest = usec;
        return 0;
}

static int parse_amount(const char *value, void *dest, const char *const *words) {
        return value_parse_amount(value, dest);
}

static int parse_word(const char *value, void *dest, const char *const *words) {
        return value_parse_word(value, words, dest);
}

static int parse_text(const char *value, void *dest, const char *const *words) {
        return str_replace(dest, value[0] ? value : NULL);
}

static int parse_schedule(const char *value, void *dest, const char *const *words) {
        int r = schedule_check(value);

        return r < 0 ? r : str_replace(dest, value);
}

static int parse_workers(const char *value, void *dest, const char *const *words) {
        uint64_t n;
        int r;

        if (strcmp(value, "auto") == 0 && words) {
                *(uint64_t *) dest = 0;
                return 0;
        }
        r = value_parse_uint(value, &n);
        if (r < 0)
                return r;
        if (n < 1 || n > WORKERS_MAX)
                return -ERANGE;
        *(uint64_t *) dest = n;
        return 0;
}

static int parse_data(const char *value, void *dest, const char *const *words) {
        bool b;

        if (strcmp(value, "all") == 0) {
                *(uint64_t *) dest = UINT64_MAX;
                return 0;
        }
        if (strcmp(value, "0") != 0 && value_parse_bool(value, &b) >= 0) {
                if (b)
                        return -EINVAL; /* "yes" would leave open whether all data is meant */
                *(uint64_t *) dest = 0;
                return 0;
        }
        return value_parse_size(value, dest);
}

/* Blank-separated; repeated assignments add, an empty one starts over. */
static int parse_list(const char *value, void *dest, const char *const *words) {
        _cleanup_free_ char *copy = strdup(value);
        char ***list = dest, *state;

        if (!copy)
                return -ENOMEM;
        if (value[0] == '\0')
                *list = strv_free(*list);
        for (char *w = strtok_r(copy, " \t", &state); w; w = strtok_r(NULL, " \t", &state)) {
                int r = strv_extend(list, w);

                if (r < 0)
                        return r;
        }
        return 0;
}

/* What cannot be used is not added. */
static int parse_globs(const char *value, void *dest, const char *const *words) {
        _cleanup_strv_free_ char **grown = NULL;
        _cleanup_(globs_done) Globs globs = { 0 };
        char ***list = dest;
        int r;

        r = strv_copy(*list, &grown);
        if (r >= 0)
                r = parse_list(value, &grown, words);
        if (r >= 0)
                r = globs_new(grown, &globs);
        if (r < 0)
                return r;
        (void) strv_free(*list);
        *list = TAKE_PTR(grown);
        return 0;
}

static int parse_path(const char *value, void *dest, const char *const *words) {
        _cleanup_free_ char *p = strdup(value);

        if (!p)
                return -ENOMEM;
        if (value[0] == '\0')
                return str_replace(dest, NULL);
        if (value[0] != '/' || path_simplify(p) < 0)
                return -EINVAL;
        return str_replace(dest, p);
}

#define OVERLAY_KEY(name, member, parse)                                                                    \
        { "Overlay", name, parse, offsetof(OverlayConfig, member), NULL, NULL }
#define SETTING(section, name, member, parse, words, later)                                                 \
        { section, name, parse, offsetof(OverlayConfig, settings.member), words, later }

static const char *const source_words[] = { "opens", "paths", "misses", NULL };

/* Blank-separated words, or auto: all. The last assignment counts. */
static int parse_sources(const char *value, void *dest, const char *const *words) {
        _cleanup_free_ char *copy = strdup(value);
        uint64_t sources = 0;
        char *state;
        int source;

        if (!copy)
                return -ENOMEM;
        for (char *w = strtok_r(copy, " \t", &state); w; w = strtok_r(NULL, " \t", &state)) {
                if (strcmp(w, "auto") == 0) {
                        sources = UINT64_MAX;
                        continue;
                }
                if (value_parse_word(w, words, &source) < 0)
                        return -EINVAL;
                sources |= UINT64_C(1) << source;
        }
        if (sources == 0)
                return -EINVAL;
        *(uint64_t *) dest = sources;
        return 0;
}

static const char *const auto_word[] = { "auto", NULL };

static const ConfigKey config_keys[] = {
        OVERLAY_KEY("MountPoint", mount_point, parse_path),
        OVERLAY_KEY("LowerDir", lower, parse_text),
        OVERLAY_KEY("UpperDir", upper, parse_path),
        OVERLAY_KEY("WorkDir", work, parse_path),
        SETTING("Watch", "Directories", directories, parse_globs, NULL, NULL),
        SETTING("Watch", "Exclude", exclude, parse_globs, NULL, NULL),
        SETTING("Watch", "Sources", sources, parse_sources, source_words, NULL),
        SETTING("Watch", "SearchVariables", search_variables, parse_list, NULL, NULL),
        SETTING("Watch", "HotMisses", hot_misses, parse_count, NULL, NULL),
        SETTING("Watch", "HotOpens", hot_opens, parse_count, NULL, NULL),
        SETTING("Watch", "HotWindowSec", hot_window_usec, parse_timespan, NULL, NULL),
        SETTING("Watch", "MaxWatches", max_watches, parse_count, NULL, NULL),
        SETTING("CopyUp", "Workers", workers, parse_workers, auto_word, NULL),
        SETTING("CopyUp", "MaxWorkers", max_workers, parse_workers, NULL, NULL),
        SETTING("CopyUp", "EntriesPerSecond", entries_per_second, parse_rate, NULL, NULL),
        SETTING("CopyUp", "MaxEntries", max_entries, parse_count_or_infinity, NULL, NULL),
        SETTING("CopyUp", "Data", data_max_bytes, parse_data, NULL, NULL),
        SETTING("CopyUp", "HardLinks", hard_links, parse_word, hard_links_words, NULL),
        SETTING("CopyUp", "MinFreeSpace", min_free_space, parse_amount, NULL, NULL),
        SETTING("CopyUp", "MinFreeInodes", min_free_inodes, parse_amount, NULL, NULL),
        SETTING("CopyUp", "RetrySec", retry_usec, parse_timespan, NULL, NULL),
        SETTING("CopyUp", "Schedule", schedule, parse_schedule, NULL, NULL),
        SETTING("Finalize", "Automatic", is_automatic, parse_bool, NULL, NULL),
        SETTING("Finalize", "RandomizedDelaySec", randomized_delay_usec, parse_delay, NULL, NULL),
        SETTING("Finalize", "Unit", unit, parse_globs, NULL, NULL),
        SETTING("Finalize", "Scheme", scheme, parse_word, scheme_words, "finalized"),
        SETTING("Finalize", "Method", method, parse_word, method_words, NULL),
        SETTING("Finalize", "QuietSec", quiet_usec, parse_timespan, NULL, NULL),
        SETTING("Finalize", "Standing", standing, parse_word, standing_words, NULL),
        SETTING("Finalize", "Parents", want_parents, parse_bool, NULL, NULL),
        SETTING("Finalize", "OnLowerChange", on_lower_change, parse_word, lower_change_words, NULL),
        SETTING("Finalize", "OnLowerRemoved", on_lower_removed, parse_word, lower_removed_words, NULL),
        SETTING("Remount", "Options", remount_options, parse_text, NULL, NULL),
        SETTING("Remount", "Blockers", remount_blockers, parse_word, blockers_words, NULL),
        SETTING("Remount", "CoverOld", may_cover_old, parse_bool, NULL, NULL),
};

static const Settings builtin = {
        .sources = UINT64_MAX,
        .hot_opens = 20,
        .hot_misses = 20,
        .hot_window_usec = 600 * USEC_PER_SEC,
        .max_watches = 8192,
        .max_workers = 32,
        .entries_per_second = UINT64_MAX,
        .max_entries = 100000,
        .hard_links = HARD_LINKS_SKIP,
        .min_free_space = { .is_percent = true, .value = 5 },
        .min_free_inodes = { .is_percent = true, .value = 5 },
        .retry_usec = 300 * USEC_PER_SEC,
        .is_automatic = true,
        .quiet_usec = 2 * USEC_PER_SEC,
        .standing = STANDING_AUTO,
        .on_lower_change = LOWER_CHANGE_REFRESH,
        .on_lower_removed = LOWER_REMOVED_PRUNE,
};

static void settings_done(Settings *s) {
        s->directories = strv_free(s->directories);
        s->exclude = strv_free(s->exclude);
        s->search_variables = strv_free(s->search_variables);
        s->unit = strv_free(s->unit);
        free(s->schedule);
        free(s->remount_options);
}

static int settings_copy(const Settings *s, Settings *ret) {
        *ret = *s;
        ret->directories = ret->exclude = ret->search_variables = ret->unit = NULL;
        ret->schedule = ret->remount_options = NULL;
        if (strv_copy(s->directories, &ret->directories) < 0 || strv_copy(s->exclude, &ret->exclude) < 0 ||
            strv_copy(s->search_variables, &ret->search_variables) < 0 ||
            strv_copy(s->unit, &ret->unit) < 0 || str_replace(&ret->schedule, s->schedule) < 0 ||
            str_replace(&ret->remount_options, s->remount_options) < 0)
                return -ENOMEM; /* the caller frees what has been copied */
        return 0;
}

unsigned settings_worker_threads(const Settings *s) {
        uint64_t n = s->workers > 0 && s->workers < s->max_workers ? s->workers : s->max_workers;

        return (unsigned) n;
}

OverlayConfig *overlay_config_ref(OverlayConfig *o) {
        o->n_ref++;
        return o;
}

OverlayConfig *overlay_config_unref(OverlayConfig *o) {
        if (!o || --o->n_ref > 0)
                return NULL;
        free(o->name);
        free(o->mount_point);
        free(o->lower);
        free(o->upper);
        free(o->work);
        settings_done(&o->settings);
        free(o);
        return NULL;
}

bool overlay_config_same_mount(const OverlayConfig *a, const OverlayConfig *b) {
        return str_equal(a->mount_point, b->mount_point) && str_equal(a->lower, b->lower) &&
                str_equal(a->upper, b->upper) && str_equal(a->work, b->work);
}

static int overlay_config_new(const char *name, const Settings *defaults, OverlayConfig **ret) {
        _cleanup_(overlay_config_unrefp) OverlayConfig *o = calloc(1, sizeof(OverlayConfig));

        if (!o)
                return -ENOMEM;
        o->n_ref = 1;
        o->name = strdup(name);
        if (!o->name || settings_copy(defaults, &o->settings) < 0)
                return -ENOMEM;
        *ret = TAKE_PTR(o);
        return 0;
}

Config *config_free(Config *c) {
        if (!c)
                return NULL;
        for (size_t i = 0; i < c->n_overlays; i++)
                (void) overlay_config_unref(c->overlays[i]);
        free(c->overlays);
        free(c);
        return NULL;
}

OverlayConfig *config_find(const Config *c, const char *name) {
        for (size_t i = 0; c && i < c->n_overlays; i++)
                if (strcmp(c->overlays[i]->name, name) == 0)
                        return c->overlays[i];
        return NULL;
}

static int config_add(Config *c, OverlayConfig *o) {
        if (!ARRAY_GROW(c->overlays, c->n_overlays))
                return -ENOMEM;
        c->overlays[c->n_overlays++] = overlay_config_ref(o);
        return 0;
}

typedef struct Target {
        Config *config;
        OverlayConfig *overlay;
        bool is_overlay_file; /* rather than ovlfind.conf, which holds the defaults and has no [Overlay] */
} Target;

static void
target_warn(const Target *t, const ConfigLine *l, const char *what, const char *name, const char *rest) {
        t->config->n_warnings++;
        log_fields(
                LOG_WARNING, &(LogFields){ .message_id = MESSAGE_CONFIG_WARNING }, "%s:%u: %s '%s'%s",
                l->file, l->line, what, name, rest);
}

static const ConfigKey *key_find(const char *section, const char *name) {
        for (size_t i = 0; i < ELEMENTSOF(config_keys); i++)
                if (strcmp(config_keys[i].section, section) == 0 && strcmp(config_keys[i].name, name) == 0)
                        return config_keys + i;
        return NULL;
}

static void target_assign(const ConfigLine *l, void *userdata) {
        const ConfigKey *k;
        Target *t = userdata;

        if (!l->key) {
                target_warn(t, l, "neither a section nor an assignment:", l->value, ", ignoring");
                return;
        }
        k = key_find(l->section, l->key);
        if (!k || (strcmp(k->section, "Overlay") == 0 && !t->is_overlay_file)) {
                _cleanup_free_ char *rest = str_format(" in section [%s], ignoring", l->section);

                target_warn(t, l, "unknown key", l->key, rest ?: ", ignoring");
                return;
        }
        if (k->parse(l->value, (char *) t->overlay + k->offset, k->words) < 0) {
                _cleanup_free_ char *rest = str_format(" for %s=, keeping the default", l->key);

                target_warn(t, l, "bad value", l->value, rest ?: ", keeping the default");
                return;
        }
        if (str_equal(k->later, l->value))
                log_debug(
                        "%s:%u: %s=%s has no effect yet in this version", l->file, l->line, l->key,
                        l->value);
}

static void target_read(Target *t, const char *path) {
        int r = config_file_parse(path, target_assign, t);

        if (r < 0) {
                t->config->n_warnings++;
                (void) log_warning_errno(r, "Cannot read '%s', ignoring: %m", path);
        }
}

/* ovlfind.conf, then its drop-ins by name: what every overlay starts with. */
static int config_read_defaults(Config *c, char *const *folders, OverlayConfig *defaults) {
        Target t = { .config = c, .overlay = defaults };
        _cleanup_strv_free_ char **drop_ins = NULL;
        _cleanup_free_ char *main_file = NULL;
        int r;

        r = config_file_find(folders, "ovlfind.conf", &main_file);
        if (r < 0)
                return log_error_errno(r, "Cannot look for ovlfind.conf: %m");
        if (main_file)
                target_read(&t, main_file);
        r = config_file_list(folders, "ovlfind.conf.d", &drop_ins);
        if (r < 0)
                return log_error_errno(r, "Cannot list ovlfind.conf.d: %m");
        STRV_FOREACH (p, drop_ins)
                target_read(&t, *p);
        return 0;
}

/* Names become file names, object paths and journal fields. */
static bool overlay_name_is_valid(const char *s) {
        size_t n = strlen(s);

        if (n == 0 || n > 128 || s[0] == '.')
                return false;
        for (; *s; s++)
                if (!isalnum((unsigned char) *s) && !strchr(":_.-@+", *s))
                        return false;
        return true;
}

static const OverlayConfig *config_find_mount(const Config *c, const char *mount_point) {
        for (size_t i = 0; i < c->n_overlays; i++)
                if (strcmp(c->overlays[i]->mount_point, mount_point) == 0)
                        return c->overlays[i];
        return NULL;
}

static int
config_read_overlay(Config *c, const char *path, const Settings *defaults, const Config *previous) {
        const char *base = path_basename(path);
        _cleanup_free_ char *name = strndup(base, strlen(base) - strlen(".conf"));
        _cleanup_(overlay_config_unrefp) OverlayConfig *o = NULL;
        const OverlayConfig *other;
        OverlayConfig *old;
        Target t;
        int r;

        if (!name)
                return -ENOMEM;
        if (!overlay_name_is_valid(name)) {
                c->n_warnings++;
                log_warning("%s: '%s' cannot be the name of an overlay, ignoring", path, name);
                return 0;
        }
        r = overlay_config_new(name, defaults, &o);
        if (r < 0)
                return r;
        t = (Target){ .config = c, .overlay = o, .is_overlay_file = true };
        target_read(&t, path);
        other = o->mount_point ? config_find_mount(c, o->mount_point) : NULL;
        if (o->mount_point && !other)
                return config_add(c, o);
        c->n_warnings++;
        old = config_find(previous, name);
        if (old && config_find_mount(c, old->mount_point))
                old = NULL;
        log_warning(
                other ? "%s: MountPoint= is that of overlay '%s' already, %s"
                      : "%s: no usable MountPoint=%.0s, %s",
                path, other ? other->name : "",
                old ? "keeping the previous configuration" : "ignoring this overlay");
        return old ? config_add(c, old) : 0;
}

static int
config_read_overlays(Config *c, char *const *folders, const Settings *defaults, const Config *previous) {
        _cleanup_strv_free_ char **files = NULL;
        int r;

        r = config_file_list(folders, "overlays.d", &files);
        if (r < 0)
                return log_error_errno(r, "Cannot list overlays.d: %m");
        STRV_FOREACH (p, files) {
                r = config_read_overlay(c, *p, defaults, previous);
                if (r < 0)
                        return log_oom();
        }
        return 0;
}

int config_load(char *const *folders, const Config *previous, Config **ret) {
        _cleanup_(overlay_config_unrefp) OverlayConfig *defaults = NULL;
        _cleanup_(config_freep) Config *c = calloc(1, sizeof(Config));
        int r;

        if (!c || overlay_config_new("", &builtin, &defaults) < 0)
                return log_oom();
        r = config_read_defaults(c, folders, defaults);
        if (r < 0)
                return r;
        r = config_read_overlays(c, folders, &defaults->settings, previous);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(c);
        return 0;
}

int config_folders(char ***ret) {
        static const char *const system_folders[] = { "/etc/ovlfind", "/run/ovlfind", "/usr/lib/ovlfind" };
        const char *e = getenv("CONFIGURATION_DIRECTORY");
        _cleanup_free_ char *first = strndup(e ?: "", strcspn(e ?: "", ":"));
        _cleanup_strv_free_ char **l = NULL;

        if (!first)
                return -ENOMEM;
        if (first[0] != '\0' && strcmp(first, system_folders[0]) != 0) {
                if (strv_extend(&l, first) < 0)
                        return -ENOMEM;
        } else
                for (size_t i = 0; i < ELEMENTSOF(system_folders); i++)
                        if (strv_extend(&l, system_folders[i]) < 0)
                                return -ENOMEM;
        *ret = TAKE_PTR(l);
        return 0;
}
