/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of verbs: name, arguments, options, function. --help, "help", the dispatch and the tests of
 * completions and manuals all read it. Whether a verb takes an option or an argument is decided from the
 * table alone, before the verb runs. */
#pragma once

#include "ctl/ctl.h"

/* argv are the arguments after the verb, NULL-terminated. Returns an ExitCode. */
typedef int verb_func(Ctl *c, int argc, char **argv);

typedef struct Verb {
        const char *name;
        int min_arguments;
        int max_arguments; /* -1: any number */
        unsigned options;  /* OptionId bits besides OPTIONS_COMMON */
        const char *arguments;
        const char *summary;
        verb_func *run;
        const char *member; /* the manager's method behind it, where one function serves several verbs */
} Verb;

extern const Verb verb_table[];
extern const size_t n_verbs;

const Verb *verb_find(const char *name) _pure_;
/* Number of arguments and options fit the verb, and no argument is empty (an unset shell variable must not
 * mean "all"); else -EINVAL and *reterr set to one line. */
int verb_validate(const Verb *v, int argc, char **argv, const Options *o, char **reterr);

verb_func verb_blockers, verb_cancel, verb_check, verb_directories, verb_help, verb_is_finalized, verb_jobs,
        verb_list, verb_log_level, verb_metrics, verb_monitor, verb_overlays, verb_paths, verb_pause,
        verb_reload, verb_remount, verb_status, verb_top, verb_verify, verb_version;
