/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The journal's last lines about an overlay, as far as whoever calls may read it. It is an extra of
 * "status": where there is no journal, it says nothing, and that is no error. Texts are escaped: names of
 * files are in them. */
#pragma once

#include "ctl/ctl.h"

/* Prints the last entries with OVLFIND_OVERLAY=name, oldest first, after an empty line. Silently nothing
 * where there is no journal or it may not be read. */
void journal_print_tail(const Ctl *c, const char *overlay);
