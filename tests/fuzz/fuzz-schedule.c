/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Windows of time: what is accepted is open or closed as a model says, at any time, and stays so until the
 * time it tells. Input: seconds (8 bytes), then the text. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "config/schedule.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        Input in = input_begin(data, size);
        uint64_t seconds = input_number(&in) % (UINT64_C(1) << 33), now = seconds * USEC_PER_SEC, change,
                 later;
        _cleanup_free_ char *s = input_string(&in);
        bool is_open;

        (void) setenv("TZ", "UTC", 1);
        if (schedule_check(s) < 0) {
                (void) schedule_is_open(s, now, &change);
                return 0;
        }
        is_open = schedule_is_open(s, now, &change);
        if (change == USEC_INFINITY) {
                HOLDS(is_open && strcmp(s, "always") == 0);
                return 0;
        }
        HOLDS(change > now && change <= now + 86400 * USEC_PER_SEC);
        /* As it is until then, and again a week later. */
        for (unsigned i = 1; i <= 4; i++)
                HOLDS(schedule_is_open(s, now + (change - USEC_PER_SEC - now) / 4 * i, &later) == is_open);
        HOLDS(schedule_is_open(s, now + 7 * 86400 * USEC_PER_SEC, &later) == is_open);
        HOLDS(later == change + 7 * 86400 * USEC_PER_SEC);
        return 0;
}
