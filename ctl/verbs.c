/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/verbs.h"

#include <string.h>

#define OPTIONS_JOB                                                                                         \
        (OPTION_NO_BLOCK | OPTION_DRY_RUN | OPTION_FORCE | OPTION_METHOD | OPTION_STANDING | OPTION_DEPTH | \
         OPTION_PARENTS | OPTION_OFFLINE | OPTION_UPPER | OPTION_LOWER)

#define OPTIONS_VERIFY                                                                                      \
        (OPTION_NO_BLOCK | OPTION_REPAIR | OPTION_OFFLINE | OPTION_UPPER | OPTION_LOWER | OPTION_WORK)

const Verb verb_table[] = {
        { "status", 0, -1, 0, "[OVERLAY|PATH…]", "Show the daemon, overlays or directories", verb_status },
        { "list", 0, 0, 0, "", "List the overlays", verb_list },
        { "finalize", 1, -1, OPTIONS_JOB | OPTION_DATA, "PATH…", "Finalize directories and all below them",
          verb_paths, "Finalize" },
        { "unfinalize", 1, -1, OPTIONS_JOB | OPTION_RESET, "PATH…", "Make directories merged again",
          verb_paths, "Unfinalize" },
        { "refresh", 1, -1, OPTION_NO_BLOCK | OPTION_DRY_RUN | OPTION_FORCE, "PATH…",
          "Take up what changed in the lower layers", verb_paths, "Refresh" },
        { "prune", 0, -1, OPTION_NO_BLOCK | OPTION_DRY_RUN | OPTION_FORCE, "[OVERLAY|PATH…]",
          "Remove what is left of removed releases", verb_overlays, "Prune" },
        { "verify", 0, -1, OPTIONS_VERIFY, "[OVERLAY|PATH…]", "Look for damage and leftovers", verb_verify,
          "Verify" },
        { "is-finalized", 1, 1, 0, "PATH", "Print the state; succeed when finalized", verb_is_finalized },
        { "directories", 0, 1, OPTION_STATE, "[OVERLAY]", "List the directories that are not merged",
          verb_directories },
        { "top", 0, 1, OPTION_ITERATIONS | OPTION_BATCH | OPTION_SORT, "[OVERLAY]",
          "Show the directories that are used most", verb_top },
        { "check", 0, 1, 0, "[OVERLAY|MOUNTPOINT]", "Check what finalizing needs", verb_check },
        { "blockers", 0, 1, 0, "[OVERLAY|PATH]", "List who uses an overlay or an old tree", verb_blockers },
        { "remount", 1, 1, OPTION_METHOD | OPTION_SET | OPTION_DRY_RUN | OPTION_FORCE | OPTION_NO_BLOCK,
          "OVERLAY", "Drop caches, or swap the superblock", verb_remount, "Remount" },
        { "jobs", 0, 1, OPTION_STATE, "[OVERLAY]", "List running and recent jobs", verb_jobs },
        { "cancel", 1, -1, 0, "JOB…", "Cancel jobs", verb_cancel },
        { "pause", 0, 1, 0, "[OVERLAY]", "Start no further jobs", verb_pause, "Pause" },
        { "resume", 0, 1, 0, "[OVERLAY]", "Start jobs again", verb_pause, "Resume" },
        { "monitor", 0, 0, 0, "", "Print signals as they come", verb_monitor },
        { "metrics", 0, 0, 0, "", "Print numbers for a monitoring system", verb_metrics },
        { "reload", 0, 0, 0, "", "Read the configuration anew", verb_reload },
        { "log-level", 0, 1, 0, "[LEVEL]", "Show or set the daemon's log level", verb_log_level },
        { "version", 0, 0, 0, "", "Show the version", verb_version },
        { "help", 0, 0, 0, "", "Show this help", verb_help },
};
const size_t n_verbs = ELEMENTSOF(verb_table);

const Verb *verb_find(const char *name) {
        for (size_t i = 0; i < n_verbs; i++)
                if (strcmp(verb_table[i].name, name) == 0)
                        return &verb_table[i];
        return NULL;
}

static int validate_arguments(const Verb *v, int argc, char **argv, char **reterr) {
        if (argc < v->min_arguments)
                return asprintf(reterr, "%s: expected %s", v->name, v->arguments);
        if (v->max_arguments == 0 && argc > 0)
                return asprintf(reterr, "%s takes no arguments", v->name);
        if (v->max_arguments > 0 && argc > v->max_arguments)
                return asprintf(reterr, "%s: too many arguments, expected %s", v->name, v->arguments);
        for (int i = 0; i < argc; i++)
                if (*argv[i] == '\0')
                        return asprintf(reterr, "%s: argument %d is empty", v->name, i + 1);
        return 0;
}

static int validate_where(const Verb *v, const Options *o, char **reterr) {
        unsigned bus = o->given & OPTIONS_BUS;

        if ((bus & (bus - 1)) != 0)
                return asprintf(reterr, "give one of --address=, --host= and --machine=, not several");
        if (options_have(o, OPTION_HOST | OPTION_MACHINE) && options_have(o, OPTIONS_LOCAL))
                return asprintf(
                        reterr,
                        "%s: --offline and its layers are of this machine; run it where they are, without "
                        "--host= and --machine=",
                        v->name);
        return 0;
}

static int validate_options(const Verb *v, const Options *o, char **reterr) {
        for (size_t i = 0; i < n_options; i++)
                if (options_have(o, option_table[i].id) &&
                    !((v->options | OPTIONS_COMMON) & option_table[i].id))
                        return asprintf(
                                reterr, "option --%s does not apply to %s", option_table[i].name, v->name);
        return validate_where(v, o, reterr);
}

int verb_validate(const Verb *v, int argc, char **argv, const Options *o, char **reterr) {
        int r;

        r = validate_arguments(v, argc, argv, reterr);
        if (r == 0)
                r = validate_options(v, o, reterr);
        if (r == 0)
                return 0;
        return r < 0 ? -ENOMEM : -EINVAL;
}
