/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Times, sizes, numbers: what is read and written plainly is read as the same. */
#include <inttypes.h>
#include <string.h>

#include "base/str.h"
#include "ctl/format.h"
#include "fuzz.h"
#include "service/config-value.h"

static void check_plain(int (*parse)(const char *s, uint64_t *ret), const char *s, const char *unit) {
        uint64_t v, again;
        int r = parse(s, &v);

        HOLDS(r == 0 || r == -EINVAL || r == -ERANGE);
        if (r == 0 && v != USEC_INFINITY) {
                _cleanup_free_ char *text = str_format("%" PRIu64 "%s", v, unit);

                HOLDS(parse(text, &again) == 0 && again == v);
        }
}

static void check_printed(const char *s) {
        uint64_t v = 0;
        char *(*const formats[])(uint64_t) = { format_count, format_bytes, format_duration, format_seconds,
                                               format_timestamp };

        (void) value_parse_uint(s, &v);
        for (size_t i = 0; i < ELEMENTSOF(formats); i++) {
                _cleanup_free_ char *text = formats[i](v);

                HOLDS(text && *text && strlen(text) < 64);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        Input in = input_begin(data, size);
        _cleanup_free_ char *s = input_string(&in);
        uint64_t ours, theirs;
        uint32_t small;
        Amount amount;
        bool b;
        int r;

        check_plain(value_parse_timespan, s, "us");
        check_plain(value_parse_size, s, "");
        check_plain(value_parse_uint, s, "");
        check_plain(parse_size, s, "");
        check_printed(s);
        r = value_parse_amount(s, &amount);
        HOLDS(r < 0 || !amount.is_percent || amount.value <= 100);
        (void) value_parse_bool(s, &b);
        r = parse_u32(s, &small);
        HOLDS((r == 0) == (value_parse_uint(s, &ours) == 0 && ours <= UINT32_MAX));
        /* What both take means the same to both. */
        if (value_parse_size(s, &ours) == 0 && parse_size(s, &theirs) == 0)
                HOLDS(ours == theirs);
        return 0;
}
