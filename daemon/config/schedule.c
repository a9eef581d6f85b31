/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config/schedule.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define DAY 86400u
#define ALL_DAYS 0x7fu
#define CHANGES_MAX 16u /* that one window may go through */

typedef struct Window {
        unsigned days;       /* bit 0: Sunday */
        unsigned begin, end; /* seconds since midnight */
} Window;

static const char *skip_blanks(const char *s) {
        while (*s == ' ' || *s == '\t')
                s++;
        return s;
}

/* Two digits below limit. */
static bool parse_two(const char **s, unsigned limit, unsigned *ret) {
        const char *p = *s;

        if (!isdigit((unsigned char) p[0]) || !isdigit((unsigned char) p[1]))
                return false;
        *ret = (unsigned) (p[0] - '0') * 10 + (unsigned) (p[1] - '0');
        *s = p + 2;
        return *ret < limit;
}

static bool parse_time(const char **s, unsigned *ret) {
        unsigned h, m, sec = 0;

        if (!parse_two(s, 24, &h) || **s != ':')
                return false;
        (*s)++;
        if (!parse_two(s, 60, &m))
                return false;
        if (**s == ':') {
                (*s)++;
                if (!parse_two(s, 60, &sec))
                        return false;
        }
        *ret = h * 3600 + m * 60 + sec;
        return true;
}

static bool parse_day(const char **s, unsigned *ret) {
        static const char *const names[] = { "Sunday",   "Monday", "Tuesday", "Wednesday",
                                             "Thursday", "Friday", "Saturday" };
        size_t n = 0;

        while (isalpha((unsigned char) (*s)[n]))
                n++;
        for (unsigned d = 0; d < ELEMENTSOF(names); d++)
                if ((n == 3 || n == strlen(names[d])) && strncasecmp(names[d], *s, n) == 0) {
                        *s += n;
                        *ret = d;
                        return true;
                }
        return false;
}

/* "Mon..Fri,Sun" */
static bool parse_days(const char **s, unsigned *ret) {
        *ret = 0;
        for (;; (*s)++) {
                unsigned first, last;

                if (!parse_day(s, &first))
                        return false;
                last = first;
                if (strncmp(*s, "..", 2) == 0) {
                        *s += 2;
                        if (!parse_day(s, &last))
                                return false;
                }
                for (unsigned d = first;; d = (d + 1) % 7) {
                        *ret |= 1u << d;
                        if (d == last)
                                break;
                }
                if (**s != ',')
                        return **s == ' ' || **s == '\t';
        }
}

/* One window at *s, which moves to its end: a ';' or the end of the text. */
static bool parse_window(const char **s, Window *ret) {
        Window w = { .days = ALL_DAYS };
        const char *p = skip_blanks(*s);

        if (isalpha((unsigned char) *p) && !parse_days(&p, &w.days))
                return false;
        p = skip_blanks(p);
        if (strncmp(p, "*-*-*", 5) == 0)
                p = skip_blanks(p + 5);
        if (!parse_time(&p, &w.begin) || strncmp(p, "..", 2) != 0)
                return false;
        p += 2;
        if (!parse_time(&p, &w.end))
                return false;
        p = skip_blanks(p);
        if (*p != ';' && *p != '\0')
                return false;
        *s = p;
        *ret = w;
        return true;
}

int schedule_check(const char *s) {
        Window w;

        if (strcmp(s, "always") == 0)
                return 0;
        while (parse_window(&s, &w)) {
                if (*s == '\0')
                        return 0;
                s++;
        }
        return -EINVAL;
}

static bool window_has(const Window *w, unsigned day, unsigned second) {
        bool today = w->days & (1u << day), yesterday = w->days & (1u << ((day + 6) % 7));

        if (w->begin < w->end)
                return today && second >= w->begin && second < w->end;
        return (today && second >= w->begin) || (yesterday && second < w->end);
}

/* Seconds from one time of a day to the next occurrence of another, never 0. */
static unsigned until(unsigned from, unsigned to) {
        return to > from ? to - from : to + DAY - from;
}

static unsigned smaller(unsigned a, unsigned b) {
        return a < b ? a : b;
}

bool schedule_is_open(const char *s, uint64_t now_usec, uint64_t *ret_change_usec) {
        time_t now = (time_t) (now_usec / USEC_PER_SEC);
        unsigned second, change;
        bool is_open = false;
        struct tm tm;
        Window w;

        *ret_change_usec = USEC_INFINITY;
        if (!s || strcmp(s, "always") == 0 || !localtime_r(&now, &tm))
                return true;
        second = (unsigned) (tm.tm_hour * 3600 + tm.tm_min * 60 + tm.tm_sec) % DAY;
        change = until(second, 0); /* at midnight another weekday begins */
        while (parse_window(&s, &w)) {
                is_open |= window_has(&w, (unsigned) tm.tm_wday, second);
                change = smaller(change, smaller(until(second, w.begin), until(second, w.end)));
                if (*s++ == '\0')
                        break;
        }
        *ret_change_usec = ((uint64_t) now + change) * USEC_PER_SEC;
        return is_open;
}

/* Windows may follow each other without a gap, and midnight divides them. */
uint64_t schedule_end(const char *s, uint64_t now_usec) {
        uint64_t change;

        for (unsigned i = 0; i < CHANGES_MAX; i++) {
                if (!schedule_is_open(s, now_usec, &change))
                        return now_usec;
                if (change == USEC_INFINITY)
                        break;
                now_usec = change;
        }
        return USEC_INFINITY;
}
