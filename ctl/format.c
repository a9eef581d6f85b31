/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/format.h"

#include <inttypes.h>
#include <string.h>
#include <wchar.h>

#include "base/clock.h"
#include "base/str.h"
#include "base/utf8.h"

/* Bytes of the character at s, and the cells it takes. */
static size_t character(const char *s, size_t *ret_width) {
        size_t n = utf8_sequence(s);
        wchar_t wc;
        int w = 1; /* what the locale does not know is shown somehow */

        if (n > 0 && mbtowc(&wc, s, n) == (int) n)
                w = wcwidth(wc);
        *ret_width = w >= 0 ? (size_t) w : 1;
        return n > 0 ? n : 1;
}

size_t format_width(const char *s) {
        size_t width = 0, w;

        for (; *s; width += w)
                s += character(s, &w);
        return width;
}

size_t format_fitting(const char *s, size_t width) {
        const char *p = s;

        while (*p) {
                size_t w, n = character(p, &w);

                if (w > width)
                        break;
                width -= w;
                p += n;
        }
        return (size_t) (p - s);
}

char *format_wrap(const char *s, size_t width) {
        char *out = strdup(s), *blank = NULL;
        size_t column = 0, after_blank = 0, w;

        for (char *p = out; p && *p;) {
                char *c = p;

                p += character(p, &w);
                column += w;
                if (*c == ' ') {
                        blank = c;
                        after_blank = 0;
                } else
                        after_blank += w;
                if (column <= width || !blank)
                        continue;
                *blank = '\n';
                blank = NULL;
                column = after_blank;
        }
        return out;
}

char *format_count(uint64_t n) {
        if (n < 1000000)
                return str_format("%" PRIu64, n);
        if (n < 1000000000)
                return str_format("%.1f M", (double) n / 1e6);
        return str_format("%.1f G", (double) n / 1e9);
}

char *format_quantity(uint64_t n, const char *noun, const char *plural) {
        _cleanup_free_ char *s = format_count(n);

        return s ? str_format("%s %s", s, n == 1 ? noun : plural) : NULL;
}

char *format_bytes(uint64_t bytes) {
        static const char units[] = "KMGTPE";
        double v = (double) bytes;
        size_t i = 0;

        if (bytes < 1024)
                return str_format("%" PRIu64 "B", bytes);
        for (v /= 1024; v >= 1023.95 && units[i + 1]; v /= 1024)
                i++;
        return str_format("%.1f%c", v, units[i]);
}

static char *two_units(uint64_t value, uint64_t per, const char *big, const char *small) {
        if (value % per == 0)
                return str_format("%" PRIu64 " %s", value / per, big);
        return str_format("%" PRIu64 " %s %" PRIu64 " %s", value / per, big, value % per, small);
}

char *format_duration(uint64_t usec) {
        uint64_t sec = usec / USEC_PER_SEC;

        if (usec == USEC_INFINITY)
                return str_format("unknown");
        if (usec < 10 * USEC_PER_MSEC)
                return str_format("%.1f ms", (double) usec / 1e3);
        if (sec < 10)
                return str_format("%.2f s", (double) usec / 1e6);
        if (sec < 60)
                return str_format("%.1f s", (double) usec / 1e6);
        if (sec < 60 * 60)
                return two_units(sec, 60, "min", "s");
        if (sec < 24 * 60 * 60)
                return two_units(sec / 60, 60, "h", "min");
        return two_units(sec / 3600, 24, "d", "h");
}

char *format_seconds(uint64_t usec) {
        if (usec < 60 * USEC_PER_SEC)
                return str_format("%" PRIu64 " s", usec / USEC_PER_SEC);
        return format_duration(usec);
}

char *format_rate(uint64_t n, uint64_t elapsed_usec) {
        double rate;

        if (elapsed_usec == 0)
                return NULL;
        rate = (double) n * 1e6 / (double) elapsed_usec;
        return rate < 10 ? str_format("%.1f/s", rate) : str_format("%.0f/s", rate);
}

uint64_t format_time_left(uint64_t done, uint64_t total, uint64_t elapsed_usec) {
        double left;

        if (done == 0 || total < done)
                return USEC_INFINITY;
        left = (double) elapsed_usec * (double) (total - done) / (double) done;
        return left < 1e15 ? (uint64_t) left : USEC_INFINITY;
}

char *format_timestamp(uint64_t realtime_usec) {
        return clock_format(realtime_usec) ?: strdup("?");
}

char *format_ago(uint64_t realtime_usec, uint64_t now_usec) {
        _cleanup_free_ char *s = NULL;
        uint64_t age;

        if (now_usec < realtime_usec + USEC_PER_SEC)
                return strdup("just now");
        age = now_usec - realtime_usec;
        s = format_seconds(age);
        return s ? str_format("%s ago", s) : NULL;
}

static int parse_digits(const char *s, uint64_t *ret, const char **ret_end) {
        char *end;

        if (*s < '0' || *s > '9') /* strtoull() takes blanks and signs */
                return -EINVAL;
        errno = 0;
        *ret = strtoull(s, &end, 10);
        *ret_end = end;
        return -errno;
}

int parse_u32(const char *s, uint32_t *ret) {
        const char *end;
        uint64_t v;
        int r = parse_digits(s, &v, &end);

        if (r < 0)
                return r;
        if (*end)
                return -EINVAL;
        if (v > UINT32_MAX)
                return -ERANGE;
        *ret = (uint32_t) v;
        return 0;
}

int parse_size(const char *s, uint64_t *ret) {
        static const char units[] = "KMGT";
        const char *end, *unit;
        uint64_t v, factor = 1;
        int r = parse_digits(s, &v, &end);

        if (r < 0)
                return r;
        if (*end) {
                unit = strchr(units, *end);
                if (!unit || end[1])
                        return -EINVAL;
                factor <<= 10 * (unit - units + 1);
        }
        if (v > UINT64_MAX / factor)
                return -ERANGE;
        *ret = v * factor;
        return 0;
}
