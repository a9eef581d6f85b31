/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/state-color.h"

#include <string.h>

#include "base/states.h"
#include "base/utf8.h"

Color directory_state_color(const char *state) {
        switch (directory_state_from_string(state)) {
        case DIRECTORY_FINALIZED:
                return COLOR_GREEN;
        case DIRECTORY_COPYING:
        case DIRECTORY_PENDING:
        case DIRECTORY_STALE:
                return COLOR_YELLOW;
        case DIRECTORY_BROKEN:
        case DIRECTORY_GONE:
                return COLOR_RED;
        case DIRECTORY_EXCLUDED:
                return COLOR_GREY;
        default:
                return COLOR_NONE;
        }
}

Color job_state_color(const char *state) {
        switch (job_state_from_string(state)) {
        case JOB_RUNNING:
        case JOB_APPLYING:
                return COLOR_GREEN;
        case JOB_WAITING:
                return COLOR_YELLOW;
        case JOB_FAILED:
                return COLOR_RED;
        case JOB_CANCELED:
                return COLOR_GREY;
        default:
                return COLOR_NONE;
        }
}

Color overlay_state_color(const char *state) {
        if (!state)
                return COLOR_NONE;
        if (strcmp(state, "active") == 0)
                return COLOR_GREEN;
        if (strcmp(state, "refused") == 0)
                return COLOR_RED;
        return strcmp(state, "absent") == 0 ? COLOR_GREY : COLOR_YELLOW;
}

Color check_level_color(const char *level) {
        switch (check_level_from_string(level)) {
        case CHECK_OK:
                return COLOR_GREEN;
        case CHECK_WARNING:
                return COLOR_YELLOW;
        case CHECK_FAIL:
                return COLOR_RED;
        default:
                return COLOR_NONE;
        }
}

int overlay_state_text(const Record *overlay, char **ret) {
        _cleanup_free_ char *state = utf8_escape_line(record_get_string(overlay, "state") ?: "unknown");

        if (!state)
                return -ENOMEM;
        if (record_get_boolean(overlay, "paused"))
                return asprintf(ret, "%s (paused)", state) < 0 ? -ENOMEM : 0;
        *ret = TAKE_PTR(state);
        return 0;
}
