/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What verify has found, for people: records with kind, path, text, advice, mended; a paragraph for each.
 * Nothing is looked for or judged here. What comes from names of files is escaped, so that no name can look
 * like another line. */
#pragma once

#include "ctl/ctl.h"

/* A paragraph for each. 0 or negative errno. */
int problems_print(Ctl *c, const RecordList *l);
/* EXIT_CODE_FAILURE when one of them is not mended. */
int problems_exit_code(const RecordList *l) _pure_;
/* verify --offline; argv are paths relative to the upper. Returns an ExitCode. */
int verify_offline(Ctl *c, int argc, char **argv);
