/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Windows of time in which automatic work may start, as Schedule= spells them: "always", or windows
 * separated by ';', each "[WEEKDAYS] [*-*-*] HH:MM[:SS]..HH:MM[:SS]" in local time. Weekdays are as in
 * systemd.time(7): "Mon..Fri", "Sat,Sun". The end does not belong to a window; one that ends before it
 * begins goes past midnight and belongs to the day it began on; one that ends as it begins lasts a day.
 * Pure: the time is an argument. */
#pragma once

#include "base/macro.h"

/* -EINVAL for anything else. */
int schedule_check(const char *s);
/* Whether time lies in a window; s has passed schedule_check() or is NULL for always. *ret_change_usec: when
 * that may change next, at most a day later; USEC_INFINITY for always. Realtime. */
bool schedule_is_open(const char *s, uint64_t now_usec, uint64_t *ret_change_usec);
/* When the window that is open at a time closes; USEC_INFINITY: not for days. That time if none is open. */
uint64_t schedule_end(const char *s, uint64_t now_usec);
