/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/config-value.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

typedef struct Unit {
        const char *name;
        uint64_t factor;
} Unit;

#define SEC(n) ((n) *USEC_PER_SEC)

static const Unit time_units[] = {
        { "us", 1 },
        { "usec", 1 },
        { "ms", USEC_PER_MSEC },
        { "msec", USEC_PER_MSEC },
        { "", SEC(1) },
        { "s", SEC(1) },
        { "sec", SEC(1) },
        { "second", SEC(1) },
        { "seconds", SEC(1) },
        { "m", SEC(60) },
        { "min", SEC(60) },
        { "minute", SEC(60) },
        { "minutes", SEC(60) },
        { "h", SEC(3600) },
        { "hr", SEC(3600) },
        { "hour", SEC(3600) },
        { "hours", SEC(3600) },
        { "d", SEC(86400) },
        { "day", SEC(86400) },
        { "days", SEC(86400) },
        { "w", SEC(604800) },
        { "week", SEC(604800) },
        { "weeks", SEC(604800) },
        { NULL, 0 },
};

static const Unit size_units[] = {
        { "", 1 },
        { "B", 1 },
        { "K", UINT64_C(1) << 10 },
        { "M", UINT64_C(1) << 20 },
        { "G", UINT64_C(1) << 30 },
        { "T", UINT64_C(1) << 40 },
        { NULL, 0 },
};

static const Unit *unit_find(const Unit *units, const char *s, size_t n) {
        for (; units->name; units++)
                if (strlen(units->name) == n && strncmp(units->name, s, n) == 0)
                        return units;
        return NULL;
}

static int parse_digits(const char **s, uint64_t *ret) {
        uint64_t v = 0;

        if (!isdigit((unsigned char) **s))
                return -EINVAL;
        for (; isdigit((unsigned char) **s); (*s)++)
                if (__builtin_mul_overflow(v, 10, &v) ||
                    __builtin_add_overflow(v, (uint64_t) (**s - '0'), &v))
                        return -ERANGE;
        *ret = v;
        return 0;
}

/* Reads ".25" as a quarter of factor; digits beyond the sixth do not count. */
static int parse_fraction(const char **s, uint64_t factor, uint64_t *ret) {
        uint64_t scale = 1, v = 0;

        *ret = 0;
        if (**s != '.')
                return 0;
        (*s)++;
        if (!isdigit((unsigned char) **s))
                return -EINVAL;
        for (; isdigit((unsigned char) **s); (*s)++)
                if (scale < 1000000) {
                        v = v * 10 + (uint64_t) (**s - '0');
                        scale *= 10;
                }
        *ret = (uint64_t) ((double) factor * (double) v / (double) scale);
        return 0;
}

/* One "12.5min" at *s, which moves behind it. */
static int parse_term(const char **s, const Unit *units, uint64_t *ret) {
        const char *fraction, *p = *s;
        uint64_t whole, part;
        const Unit *u;
        size_t n;
        int r = parse_digits(&p, &whole);

        if (r < 0)
                return r;
        fraction = p;
        r = parse_fraction(&p, 0, &part);
        if (r < 0)
                return r;
        p += strspn(p, " \t");
        for (n = 0; isalpha((unsigned char) p[n]); n++)
                ;
        u = unit_find(units, p, n);
        if (!u)
                return -EINVAL;
        (void) parse_fraction(&fraction, u->factor, &part);
        if (__builtin_mul_overflow(whole, u->factor, &whole) || __builtin_add_overflow(whole, part, ret))
                return -ERANGE;
        *s = p + n;
        return 0;
}

int value_parse_timespan(const char *s, uint64_t *ret_usec) {
        uint64_t sum = 0, term;
        int r;

        if (strcmp(s, "infinity") == 0) {
                *ret_usec = USEC_INFINITY;
                return 0;
        }
        do {
                s += strspn(s, " \t");
                r = parse_term(&s, time_units, &term);
                if (r < 0)
                        return r;
                if (__builtin_add_overflow(sum, term, &sum))
                        return -ERANGE;
        } while (s[strspn(s, " \t")] != '\0');
        *ret_usec = sum;
        return 0;
}

int value_parse_size(const char *s, uint64_t *ret_bytes) {
        uint64_t v;
        int r = parse_term(&s, size_units, &v);

        if (r < 0)
                return r;
        if (*s != '\0')
                return -EINVAL;
        *ret_bytes = v;
        return 0;
}

int value_parse_bool(const char *s, bool *ret) {
        static const char *const yes[] = { "yes", "true", "on", "1", "y", "t" };
        static const char *const no[] = { "no", "false", "off", "0", "n", "f" };

        for (size_t i = 0; i < ELEMENTSOF(yes); i++) {
                if (strcasecmp(s, yes[i]) != 0 && strcasecmp(s, no[i]) != 0)
                        continue;
                *ret = strcasecmp(s, yes[i]) == 0;
                return 0;
        }
        return -EINVAL;
}

int value_parse_uint(const char *s, uint64_t *ret) {
        uint64_t v;
        int r = parse_digits(&s, &v);

        if (r < 0)
                return r;
        if (*s != '\0')
                return -EINVAL;
        *ret = v;
        return 0;
}

int value_parse_word(const char *s, const char *const *words, int *ret) {
        for (int i = 0; words[i]; i++)
                if (strcmp(s, words[i]) == 0) {
                        *ret = i;
                        return 0;
                }
        return -EINVAL;
}

int value_parse_amount(const char *s, Amount *ret) {
        size_t n = strlen(s);
        Amount a = { 0 };
        int r;

        if (n == 0 || s[n - 1] != '%') {
                r = value_parse_size(s, &a.value);
        } else {
                _cleanup_free_ char *digits = strndup(s, n - 1);

                if (!digits)
                        return -ENOMEM;
                a.is_percent = true;
                r = value_parse_uint(digits, &a.value);
                if (r >= 0 && a.value > 100)
                        r = -ERANGE;
        }
        if (r < 0)
                return r;
        *ret = a;
        return 0;
}
