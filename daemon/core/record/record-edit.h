/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Changes of a record: what refresh and prune did to a finalized directory. The record is read anew,
 * changed and written durably under a lock, so that others who edit it wait. A record that is gone is no
 * error. */
#pragma once

#include "core/record/tree.h"

/* Reads the record of id anew, calls func with the node of the directory with this handle, writes it
 * durably. Others who edit wait meanwhile. 0 also when record or directory are not there any more. */
typedef int (*record_edit_func)(Node *n, void *userdata);
int record_edit(int records_fd, const char *id, const char *handle, record_edit_func func, void *userdata);
/* record_edit_func; name is a string: should the lower have it again, it is new. */
int record_forget(Node *n, void *name);
