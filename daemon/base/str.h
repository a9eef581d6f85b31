/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Texts: made by a format, compared and replaced where one may be NULL, which stands for none. They know
 * nothing of what is in them. What could not be made, for want of memory, is NULL or -ENOMEM, and nothing
 * else has changed. */
#pragma once

#include <stdarg.h>

#include "base/macro.h"

/* asprintf() with the text as its value, owned by the caller. */
char *str_format(const char *format, ...) _printf_(1, 2);
char *str_formatv(const char *format, va_list ap) _printf_(1, 0);
/* Whether both are NULL or the same text. */
bool str_equal(const char *a, const char *b) _pure_;
/* Replaces *p by a copy of s (NULL allowed). */
int str_replace(char **p, const char *s);
