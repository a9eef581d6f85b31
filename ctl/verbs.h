/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of verbs: name, arguments, options, function. --help, "help", the dispatch and the tests of
 * completions and manuals all read it. Whether a verb takes an option or an argument is decided from the
 * table alone, before the verb runs. */
#pragma once

#include "ctl/ctl.h"

typedef struct Verb {
        const char *name;
        int min_arguments;
        int max_arguments; /* -1: any number */
        unsigned options;  /* OptionId bits besides OPTIONS_COMMON */
        const char *arguments;
        const char *summary;
        /* argv are the arguments after the verb, NULL-terminated. Returns an ExitCode. */
        int (*run)(Ctl *c, int argc, char **argv);
} Verb;

extern const Verb verb_table[];
extern const size_t n_verbs;

const Verb *verb_find(const char *name) _pure_;
/* Number of arguments and options fit the verb, and no argument is empty (an unset shell variable must not
 * mean "all"); else -EINVAL and *reterr set to one line. */
int verb_validate(const Verb *v, int argc, char **argv, const Options *o, char **reterr);

int verb_blockers(Ctl *c, int argc, char **argv);
int verb_cancel(Ctl *c, int argc, char **argv);
int verb_check(Ctl *c, int argc, char **argv);
int verb_directories(Ctl *c, int argc, char **argv);
int verb_finalize(Ctl *c, int argc, char **argv);
int verb_help(Ctl *c, int argc, char **argv);
int verb_is_finalized(Ctl *c, int argc, char **argv);
int verb_jobs(Ctl *c, int argc, char **argv);
int verb_list(Ctl *c, int argc, char **argv);
int verb_log_level(Ctl *c, int argc, char **argv);
int verb_metrics(Ctl *c, int argc, char **argv);
int verb_monitor(Ctl *c, int argc, char **argv);
int verb_pause(Ctl *c, int argc, char **argv);
int verb_prune(Ctl *c, int argc, char **argv);
int verb_refresh(Ctl *c, int argc, char **argv);
int verb_reload(Ctl *c, int argc, char **argv);
int verb_remount(Ctl *c, int argc, char **argv);
int verb_resume(Ctl *c, int argc, char **argv);
int verb_status(Ctl *c, int argc, char **argv);
int verb_top(Ctl *c, int argc, char **argv);
int verb_unfinalize(Ctl *c, int argc, char **argv);
int verb_verify(Ctl *c, int argc, char **argv);
int verb_version(Ctl *c, int argc, char **argv);
