/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The words every interface spells alike, as cells and in colour. It knows colours and no meaning: a state
 * this build has never heard of has none and is shown as it came. Colour never says more than the word
 * beside it, so nothing is lost where there is none. */
#pragma once

#include "ctl/record.h"
#include "ctl/term.h"

Color directory_state_color(const char *state) _pure_;
Color job_state_color(const char *state) _pure_;
Color overlay_state_color(const char *state) _pure_;
Color check_level_color(const char *level) _pure_;

/* Cell of an overlay's state: "active", "active (paused)". */
char *overlay_state_text(const Record *overlay);
