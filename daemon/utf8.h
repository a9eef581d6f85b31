/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names of files are bytes, strings on the bus are UTF-8. */
#pragma once

#include "base/macro.h"

/* A copy in which every byte that is no part of valid UTF-8 is written as "\xe4"; owned by the caller, NULL
 * on out of memory. For people to read: it cannot be told from a name that has a backslash there. */
char *utf8_escape(const char *s);
/* The same for one line that is shown as it is: control characters are written like that, too. */
char *utf8_escape_line(const char *s);
