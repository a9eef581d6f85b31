/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What every verb of ovlfinctl shares: the options, the terminal, the connection, and the exit codes. A verb
 * returns an ExitCode and has told the user why, once, when it is not 0. Nothing here knows overlays: the
 * daemon does. */
#pragma once

#include "ctl/client.h"
#include "ctl/options.h"
#include "ctl/record.h"
#include "ctl/term.h"

typedef struct Ctl {
        Options options;
        Term term;
        Client client;
        const struct Verb *verb; /* the one that is run */
} Ctl;

/* Prints the list as the JSON document {"name":[...]}. 0 or negative errno. */
int ctl_print_json(Ctl *c, const char *name, RecordList *list);
/* Whether words for people (headers, "No jobs.") belong on stdout. */
bool ctl_want_legend(const Ctl *c) _pure_;
