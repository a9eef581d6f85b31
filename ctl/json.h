/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Records as JSON (RFC 8259). libsmartcols can print JSON too, but as of 2.38 neither in one line nor with
 * members left out or nested, all of which our interface promises; tables go through it, JSON goes through
 * here. */
#pragma once

#include "ctl/options.h"
#include "ctl/record.h"

/* Writes one object and a newline. Errors of the stream are left in it, for ferror(). */
void json_print(FILE *f, JsonFormat format, const Record *object);
