/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Any name: what is written of it is UTF-8, fit for the bus, and gives the bytes back; a line of it is one
 * line. */
#include <string.h>
#include <systemd/sd-bus.h>

#include "base/utf8.h"
#include "ctl/format.h"
#include "fuzz.h"

static void check_line(const char *s) {
        _cleanup_free_ char *line = utf8_escape_line(s), *again = NULL;

        HOLDS(line && fuzz_is_utf8(line));
        for (const char *p = line; *p; p++)
                HOLDS((unsigned char) *p >= ' ' && *p != 0x7f);
        HOLDS(!strstr(line, "\xc2\x85") && !strstr(line, "\xe2\x80\xa8") && !strstr(line, "\xe2\x80\xae"));
        again = utf8_escape_line(line);
        HOLDS(strcmp(line, again) == 0);
}

static void check_width(const char *s, size_t width) {
        size_t n = format_fitting(s, width);
        _cleanup_free_ char *wrapped = format_wrap(s, width), *head = strndup(s, n);

        HOLDS(n <= strlen(s) && format_width(head) <= width && fuzz_is_utf8(head));
        HOLDS(strlen(wrapped) == strlen(s) && fuzz_is_utf8(wrapped));
        for (size_t i = 0; s[i]; i++)
                HOLDS(wrapped[i] == s[i] || (s[i] == ' ' && wrapped[i] == '\n'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        Input in = input_begin(data, size);
        uint8_t width = input_byte(&in);
        _cleanup_free_ char *name = input_string(&in), *escaped = utf8_escape(name),
                            *back = utf8_unescape(escaped), *typed = utf8_unescape(name), *again = NULL;

        HOLDS(fuzz_is_utf8(escaped) && strcmp(back, name) == 0);
        /* Whatever somebody types has a spelling that means the same. */
        again = utf8_escape(typed);
        HOLDS(fuzz_is_utf8(again) && strlen(typed) <= strlen(name));
        check_line(escaped);
        check_line(name);
        check_width(escaped, width);
        return 0;
}
