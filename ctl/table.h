/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Records as tables, through libsmartcols, which nothing else of ours calls. The terminal's width is
 * honoured by cutting the columns that allow it (of a path the end is kept), and by wrapping the last one;
 * in a pipe nothing is ever cut. */
#pragma once

#include "ctl/ctl.h"

typedef struct TableColumn {
        const char *title;
        const char *key; /* of the record; unless text is set, the cell is its value */
        int flags;       /* SCOLS_FL_; SCOLS_FL_TRUNC may be cut, SCOLS_FL_WRAP (of the last) is wrapped */
        char *(*text)(const Record *r);    /* allocated and already safe for a terminal */
        Color (*color)(const char *state); /* by the record's state, which may be NULL */
} TableColumn;

/* Prints the list with a header line (unless --no-legend). 0 or negative errno. */
int table_print(Ctl *c, const TableColumn *columns, size_t n_columns, const RecordList *list);

/* The answer of a verb: the list as JSON under that name, as a table, or in words when it is empty. The exit
 * code. */
int table_answer(
        Ctl *c,
        const char *name,
        const char *none,
        const TableColumn *columns,
        size_t n_columns,
        RecordList *list);

/* A value as the text of a cell: strings escaped, numbers in decimal, several strings joined with commas,
 * counts as in "2 pending, 40 finalized". Empty when absent. NULL on out of memory. */
char *value_to_text(const Value *v);
