/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Changes of a record: what refresh and prune did to a finalized directory. The record as it is now is
 * changed, and that appended to it durably, under a lock, so that others who edit it wait. A record that is
 * gone is no error. */
#pragma once

#include "core/record/tree.h"

typedef struct RecordEditor {
        int records_fd; /* borrowed */
        Tree *tree;     /* the record that was edited last: a large one takes longer to read than to edit */
} RecordEditor;

void record_editor_done(RecordEditor *e);
/* Calls func with the node of the directory of `loaded` in the record that one is of, as that is now, and
 * writes durably what it has changed at and below it. Others who edit wait meanwhile. 0 also when record or
 * directory are not there any more. */
typedef int (*record_edit_func)(Node *n, void *userdata);
int record_edit(RecordEditor *e, const Node *loaded, record_edit_func func, void *userdata);
/* record_edit_func; name is a string: should the lower have it again, it is new. */
int record_forget(Node *n, void *name);
