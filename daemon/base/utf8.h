/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names of files are bytes; strings on the bus, in JSON and on terminals are UTF-8. This is the one way in
 * which all of ours write a name there: a byte that is no UTF-8 as "\xNN", and what looks like that as
 * well. So each name has one spelling, and utf8_unescape() gives its bytes back. */
#pragma once

#include "base/macro.h"

/* Length of the character at s, 0 if there is none; NUL is a character of 1. */
size_t utf8_sequence(const char *s) _pure_;
/* A copy in which every byte that is no part of valid UTF-8 is written as "\xe4". A backslash of the name
 * itself becomes "\x5c" where it would otherwise look like the beginning of that, and stays elsewhere. So no
 * two names are written alike. Owned by the caller, NULL on out of memory. */
char *utf8_escape(const char *s);
/* What was given to utf8_escape(). Strings that cannot come from there are taken for what is meant. */
char *utf8_unescape(const char *s);
/* For one line that people read: control characters of an escaped text are written as "\x0a", too, and bytes
 * that still are no UTF-8. Backslashes stay as they are. */
char *utf8_escape_line(const char *s);
