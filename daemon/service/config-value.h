/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Values as systemd's configuration files spell them: times, sizes, numbers, words. It knows no setting and
 * reports nothing; whoever calls names file and line. Parsers set *ret only on success; -EINVAL for what
 * cannot be read, -ERANGE for what is too large. */
#pragma once

#include "base/macro.h"

/* "2s", "1h 30min", "500ms", "infinity"; a bare number counts seconds. Microseconds. */
int value_parse_timespan(const char *s, uint64_t *ret_usec);
/* Bytes: "1048576", "1M", "1.5G"; K, M, G, T to the base of 1024. */
int value_parse_size(const char *s, uint64_t *ret_bytes);
/* "yes", "no", "true", "false", "on", "off", "1", "0"; any case. */
int value_parse_bool(const char *s, bool *ret);
/* Decimal, no sign, no blanks. */
int value_parse_uint(const char *s, uint64_t *ret);
/* Index of s in a NULL-terminated list of words. */
int value_parse_word(const char *s, const char *const *words, int *ret);

/* A part of a whole, in percent, or an absolute number. */
typedef struct Amount {
        bool is_percent;
        uint64_t value;
} Amount;
int value_parse_amount(const char *s, Amount *ret);
