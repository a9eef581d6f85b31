/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/context/result.h"

#include <string.h>

#include "base/path-util.h"
#include "core/context/error-scope.h"

void work_result_done(WorkResult *r) {
        for (size_t i = 0; i < r->n_blocked; i++) {
                free(r->blocked[i].path);
                free(r->blocked[i].reason);
        }
        free(r->blocked);
        path_list_done(&r->children);
        *r = (WorkResult){ 0 };
}

int work_result_block(WorkResult *r, const char *path, DirectoryState state, int error, const char *reason) {
        Blocked *b;

        if (!ARRAY_GROW(r->blocked, r->n_blocked))
                return -ENOMEM;
        b = r->blocked + r->n_blocked;
        *b = (Blocked){ .path = strdup(path), .state = state, .error = error, .reason = strdup(reason) };
        if (!b->path || !b->reason) {
                free(b->path);
                free(b->reason);
                return -ENOMEM;
        }
        r->n_blocked++;
        return 0;
}

FailureKind blocked_kind(const Blocked *b) {
        return error_is_of_lower(-b->error)     ? FAILURE_LOWER_UNREACHABLE
                : b->state == DIRECTORY_PENDING ? FAILURE_BUSY
                                                : FAILURE_PRECONDITION;
}
