/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The record of an old superblock: any text is refused or taken, and what one worker writes another reads.
 */
#include "core/remount/drain-record.c" /* for parse() */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(drain_freep) Drain *d = drain_new(), *again = drain_new();
        Input in = input_begin(data, size);
        uint8_t how = input_byte(&in);
        _cleanup_free_ char *given = input_string(&in), *s = NULL, *text = NULL;

        s = how & 1 ? str_format("30 0:42 /%s", given) : strdup(given);
        HOLDS(d && again);
        if (parse(s, d) < 0)
                return 0;
        HOLDS(d->work && strlen(d->work) < strlen(s));
        HOLDS(!(how & 1) || strcmp(d->work + 1, given) == 0);
        text = str_format("%d %u:%u %s", d->mount_id, major(d->device), minor(d->device), d->work);
        HOLDS(parse(text, again) == 0 && again->mount_id == d->mount_id && again->device == d->device);
        HOLDS(strcmp(again->work, d->work) == 0);
        return 0;
}
