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
        /* The cell's text, allocated and already safe for a terminal; NULL with *ret unset is an empty cell.
         */
        int (*text)(const Record *r, char **ret);
        Color (*color)(const Record *r);
} TableColumn;

/* Prints the list with a header line (unless --no-legend). 0 or negative errno. */
int table_print(Ctl *c, const TableColumn *columns, size_t n_columns, const RecordList *list);

/* A value as the text of a cell: strings escaped, numbers in decimal, several strings joined with commas,
 * counts as in "2 pending, 40 finalized". Empty when absent. */
int value_to_text(const Value *v, char **ret);
