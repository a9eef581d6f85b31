/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Numbers, times and texts as people read them, and numbers as people write them. Pure: the clock is an
 * argument. Nothing is escaped here: names of files come escaped (base/utf8.h). A function that returns a
 * string allocates it; NULL is out of memory. */
#pragma once

#include "base/macro.h"

/* Breaks lines at blanks, with a newline in place of one, so that they have at most width columns where
 * words allow it. */
char *format_wrap(const char *s, size_t width);
/* Columns that a text takes which is safe for a terminal. */
size_t format_width(const char *s) _pure_;
/* Bytes of its beginning that fit into width columns. */
size_t format_fitting(const char *s, size_t width) _pure_;
/* "61", or "1.2 M" from a million on. */
char *format_count(uint64_t n);
/* "1 entry", "61 entries": noun is the singular, plural the other. */
char *format_quantity(uint64_t n, const char *noun, const char *plural);
/* "4.1K", powers of 1024. */
char *format_bytes(uint64_t bytes);
/* "0.31 s", "2 min 3 s", "1 h 2 min", "3 d 4 h". */
char *format_duration(uint64_t usec);
/* The same in whole seconds: "6 s", "2 min 3 s". */
char *format_seconds(uint64_t usec);
/* Entries a second: "812/s", "3.5/s"; NULL also when elapsed_usec is 0. */
char *format_rate(uint64_t n, uint64_t elapsed_usec);
/* Time left for the rest at the pace so far; USEC_INFINITY when that says nothing. */
uint64_t format_time_left(uint64_t done, uint64_t total, uint64_t elapsed_usec) _pure_;
/* "2025-11-22 08:14:00" in local time. */
char *format_timestamp(uint64_t realtime_usec);
/* "3 min 1 s ago"; "just now" below a second and for the future. */
char *format_ago(uint64_t realtime_usec, uint64_t now_usec);

/* Decimal digits only. 0, -EINVAL, -ERANGE. */
int parse_u32(const char *s, uint32_t *ret);
/* Decimal digits and optionally K, M, G or T (powers of 1024). */
int parse_size(const char *s, uint64_t *ret);
