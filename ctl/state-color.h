/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Colours of the words every interface spells alike. Colour never says more than the word beside it. */
#pragma once

#include "ctl/record.h"
#include "ctl/term.h"

Color directory_state_color(const char *state) _pure_;
Color job_state_color(const char *state) _pure_;
Color overlay_state_color(const char *state) _pure_;
Color check_level_color(const char *level) _pure_;
