/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The daemon sends reasons as text. The section about a reason is found by patterns (reasons.inc), made of
 * what the page shows when this is built. A newer daemon on another host may have reasons that no pattern
 * fits. */
#include "ctl/docs.h"

#include <fnmatch.h>
#include <stddef.h>

#include "base/macro.h"
#include "base/states.h"

static const struct {
        const char *pattern;
        const char *anchor;
} reasons[] = {
#include "ctl/reasons.inc"
};

static const char *find_state(const char *state) {
        switch (state ? directory_state_from_string(state) : _DIRECTORY_STATE_INVALID) {
        case DIRECTORY_PENDING:
        case DIRECTORY_EXCLUDED:
        case DIRECTORY_BROKEN:
        case DIRECTORY_STALE:
        case DIRECTORY_GONE:
                return state;
        default:
                return NULL;
        }
}

const char *docs_find_reason(const char *state, const char *reason) {
        if (!find_state(state))
                return NULL;
        for (size_t i = 0; reason && i < ELEMENTSOF(reasons); i++)
                if (fnmatch(reasons[i].pattern, reason, 0) == 0)
                        return reasons[i].anchor;
        return state;
}
