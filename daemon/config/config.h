/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The configuration: a plain value read in one go and never changed afterwards. It acts on nothing: what
 * follows from a setting is up to the part that it is about. Overlays are counted references, so that what
 * runs keeps what it was started with while a reload swaps the rest. Reading blocks on /etc, /run and /usr
 * only. */
#pragma once

#include "base/macro.h"
#include "service/config-value.h"

typedef enum HardLinks {
        HARD_LINKS_SKIP,
        HARD_LINKS_BREAK,
} HardLinks;

typedef enum Scheme {
        SCHEME_AUTO,
        SCHEME_REDIRECT,
        SCHEME_FINALIZED,
} Scheme;

typedef enum RemountBlockers {
        REMOUNT_BLOCKERS_WAIT,
        REMOUNT_BLOCKERS_IGNORE,
} RemountBlockers;

/* Indices of the words in the configuration. */
enum {
        LOWER_CHANGE_KEEP,
        LOWER_CHANGE_REFRESH,
};
enum {
        LOWER_REMOVED_KEEP,
        LOWER_REMOVED_PRUNE,
};

/* Of heat; a bit each in Settings. */
enum {
        SOURCE_OPENS,
        SOURCE_PATHS,
        SOURCE_MISSES,
        _SOURCE_MAX,
};

typedef struct Settings {
        /* [Watch] */
        char **directories;
        char **exclude;
        uint64_t sources;
        char **search_variables;
        uint64_t hot_opens;
        uint64_t hot_misses;
        uint64_t hot_window_usec;
        uint64_t max_watches;
        /* [CopyUp] */
        uint64_t workers; /* 0: auto */
        uint64_t max_workers;
        uint64_t entries_per_second; /* UINT64_MAX: no limit */
        uint64_t max_entries;        /* of a tree that is finalized by itself; UINT64_MAX: no limit */
        uint64_t data_max_bytes;     /* 0: none, UINT64_MAX: all */
        uint64_t retry_usec;         /* while a lower layer fails, jobs that somebody asked for */
        int hard_links;              /* HardLinks; int for the table of words, as the enums below */
        Amount min_free_space;
        Amount min_free_inodes;
        char *schedule;
        /* [Finalize] */
        bool is_automatic;
        uint64_t randomized_delay_usec;
        char **unit;
        int scheme;
        int method;
        uint64_t quiet_usec;
        int standing; /* StandingPolicy */
        bool want_parents;
        int on_lower_change;  /* LOWER_CHANGE_ */
        int on_lower_removed; /* LOWER_REMOVED_ */
        /* [Remount] */
        char *remount_options;
        int remount_blockers; /* RemountBlockers */
        bool may_cover_old;
} Settings;

typedef struct OverlayConfig {
        unsigned n_ref;
        char *name;
        char *mount_point; /* absolute, simplified */
        char *lower;       /* as in lowerdir=; NULL where the mount table tells */
        char *upper;
        char *work;
        Settings settings;
} OverlayConfig;

typedef struct Config {
        OverlayConfig **overlays; /* sorted by name */
        size_t n_overlays;
        unsigned n_warnings;
} Config;

/* The folders to read, NULL-terminated, most important first: $CONFIGURATION_DIRECTORY or /etc/ovlfind; the
 * ones in /run and /usr/lib only beside the latter, so that a test never depends on the system it runs on.
 */
int config_folders(char ***ret);
/* Reads everything anew. What cannot be understood is warned about, with file and line, and left at its
 * default. An overlay without a usable MountPoint= keeps what `previous` (may be NULL) has under its name,
 * or is left out. Negative only when the folders cannot be read at all. */
int config_load(char *const *folders, const Config *previous, Config **ret);
Config *config_free(Config *c);
DEFINE_CLEANUP(Config *, config_free);
OverlayConfig *config_find(const Config *c, const char *name);

OverlayConfig *overlay_config_ref(OverlayConfig *o);
OverlayConfig *overlay_config_unref(OverlayConfig *o);
DEFINE_CLEANUP(OverlayConfig *, overlay_config_unref);
/* Whether a change from a to b means another mount or other layers, rather than other settings. */
bool overlay_config_same_mount(const OverlayConfig *a, const OverlayConfig *b);
/* Threads a worker is to use: a fixed number until it adapts by itself. */
unsigned settings_worker_threads(const Settings *s);

/* Whether a source of heat may be used. */
static inline bool settings_have_source(const Settings *s, int source) {
        return s->sources >> source & 1;
}

const char *hard_links_to_string(int v);
