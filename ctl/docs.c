/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The daemon sends reasons as text. Which section is about one is found by what that section shows, as the
 * page was when this was built; a newer daemon on another host may have reasons that it lacks. */
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
