/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/state-color.h"

#include <string.h>

#include "base/states.h"
#include "base/str.h"
#include "base/utf8.h"

Color directory_state_color(const char *state) {
        static const Color colors[_DIRECTORY_STATE_MAX] = {
                [DIRECTORY_FINALIZED] = COLOR_GREEN, [DIRECTORY_COPYING] = COLOR_YELLOW,
                [DIRECTORY_PENDING] = COLOR_YELLOW,  [DIRECTORY_STALE] = COLOR_YELLOW,
                [DIRECTORY_BROKEN] = COLOR_RED,      [DIRECTORY_GONE] = COLOR_RED,
                [DIRECTORY_EXCLUDED] = COLOR_GREY,
        };
        DirectoryState s = directory_state_from_string(state);

        return s >= 0 ? colors[s] : COLOR_NONE;
}

Color job_state_color(const char *state) {
        static const Color colors[_JOB_STATE_MAX] = {
                [JOB_RUNNING] = COLOR_GREEN, [JOB_APPLYING] = COLOR_GREEN, [JOB_WAITING] = COLOR_YELLOW,
                [JOB_FAILED] = COLOR_RED,    [JOB_CANCELED] = COLOR_GREY,
        };
        JobState s = job_state_from_string(state);

        return s >= 0 ? colors[s] : COLOR_NONE;
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
        static const Color colors[_CHECK_LEVEL_MAX] = {
                [CHECK_OK] = COLOR_GREEN,
                [CHECK_WARNING] = COLOR_YELLOW,
                [CHECK_FAIL] = COLOR_RED,
        };
        CheckLevel l = check_level_from_string(level);

        return l >= 0 ? colors[l] : COLOR_NONE;
}

char *overlay_state_text(const Record *overlay) {
        _cleanup_free_ char *state = utf8_escape_line(record_get_string(overlay, "state") ?: "unknown");

        return state ? str_format("%s%s", state, record_get_boolean(overlay, "paused") ? " (paused)" : "")
                     : NULL;
}
