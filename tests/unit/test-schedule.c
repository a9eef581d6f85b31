/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <time.h>

#include "config/schedule.h"
#include "unit.h"

static void test_check(void **state) {
        static const char *const good[] = {
                "always",
                "20:00..06:00",
                "*-*-* 20:00..06:00",
                "Sat,Sun 00:00..23:59:59",
                "Mon..Fri *-*-* 20:00..06:00",
                "monday..wednesday,Fri 20:00..06:00",
                "20:00..06:00; Sun 06:00..20:00",
        };
        static const char *const bad[] = {
                "",
                "never",
                "20:00",
                "20:00..",
                "20..06",
                "24:00..06:00",
                "x$ 20:00..06:00",
                "20:00..06:00;",
                "2025-*-* 20:00..06:00",
                "Mon-Fri 20:00..06:00",
                "Mo 20:00..06:00",
                "20:00..06:00 UTC",
                "8:00..9:00",
        };

        for (size_t i = 0; i < ELEMENTSOF(good); i++)
                assert_int_equal(schedule_check(good[i]), 0);
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_int_equal(schedule_check(bad[i]), -EINVAL);
}

/* A day of November 2026 (the 22nd is a Sunday) at a time, in UTC. */
static uint64_t at_time(int day, int hour, int minute) {
        struct tm tm = { .tm_year = 126, .tm_mon = 10, .tm_mday = day, .tm_hour = hour, .tm_min = minute };

        return (uint64_t) timegm(&tm) * USEC_PER_SEC;
}

static void test_windows(void **state) {
        static const struct {
                const char *schedule;
                int day, hour, minute;
                bool is_open;
                int change_minutes; /* from then, 0 never */
        } cases[] = {
                { NULL, 22, 3, 0, true, 0 },
                { "always", 22, 3, 0, true, 0 },
                { "20:00..06:00", 22, 19, 59, false, 1 },
                { "20:00..06:00", 22, 20, 0, true, 240 },
                { "20:00..06:00", 22, 5, 59, true, 1 },
                { "20:00..06:00", 22, 6, 0, false, 840 },
                { "08:00..18:00", 22, 12, 0, true, 360 },
                { "12:00..12:00", 22, 11, 0, true, 60 }, /* all day, from yesterday's noon */
                { "Sun 20:00..06:00", 22, 21, 0, true, 180 },
                { "Sun 20:00..06:00", 23, 5, 0, true, 60 }, /* Sunday's window ends on Monday */
                { "Sun 20:00..06:00", 22, 5, 0, false, 60 },
                { "Sat..Mon 10:00..11:00", 23, 10, 30, true, 30 },
                { "Sat..Mon 10:00..11:00", 24, 10, 30, false, 30 },
                { "01:00..02:00; 03:00..04:00", 22, 2, 30, false, 30 },
        };

        assert_int_equal(setenv("TZ", "UTC", 1), 0);
        tzset();
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                uint64_t now = at_time(cases[i].day, cases[i].hour, cases[i].minute), change;

                assert_int_equal(schedule_is_open(cases[i].schedule, now, &change), cases[i].is_open);
                assert_int_equal(
                        change == USEC_INFINITY ? 0 : (change - now) / USEC_PER_SEC / 60,
                        cases[i].change_minutes);
        }
}

static void test_end(void **state) {
        static const struct {
                const char *schedule;
                int day, hour;
                int end_hours; /* from then, -1 not for days */
        } cases[] = {
                { NULL, 22, 3, -1 },
                { "always", 22, 3, -1 },
                { "20:00..06:00", 22, 20, 10 },
                { "20:00..06:00", 22, 23, 7 }, /* midnight does not end it */
                { "20:00..06:00", 22, 6, 0 },
                { "20:00..22:00; 22:00..23:00", 22, 20, 3 },
                { "12:00..12:00", 22, 11, -1 },
                { "Sun 00:00..00:00", 22, 6, 18 },
        };

        assert_int_equal(setenv("TZ", "UTC", 1), 0);
        tzset();
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                uint64_t now = at_time(cases[i].day, cases[i].hour, 0),
                         end = schedule_end(cases[i].schedule, now);

                assert_true(
                        end ==
                        (cases[i].end_hours < 0
                                 ? USEC_INFINITY
                                 : now + (uint64_t) cases[i].end_hours * 3600 * USEC_PER_SEC));
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_check),
                cmocka_unit_test(test_windows),
                cmocka_unit_test(test_end),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
