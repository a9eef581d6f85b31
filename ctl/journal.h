/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The journal's last lines about an overlay. */
#pragma once

#include "ctl/ctl.h"

/* Prints the last entries with OVLFIND_OVERLAY=name, oldest first, after an empty line. Silently nothing
 * where there is no journal or it may not be read. */
void journal_print_tail(const Ctl *c, const char *overlay);
