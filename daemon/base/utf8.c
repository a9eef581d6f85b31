/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/utf8.h"

#include <string.h>

/* What sd-bus takes: no surrogates, nothing above U+10FFFF, no non-characters. */
static bool is_allowed(uint32_t c) {
        return c < 0x110000 && (c & 0xfffff800) != 0xd800 && (c & 0xfffe) != 0xfffe &&
                !(c >= 0xfdd0 && c <= 0xfdef);
}

size_t utf8_sequence(const char *s) {
        static const uint32_t smallest[] = { 0, 0, 0x80, 0x800,
                                             0x10000 }; /* by length; shorter ones are overlong */
        const unsigned char *p = (const unsigned char *) s;
        size_t n = p[0] < 0x80          ? 1
                : (p[0] & 0xe0) == 0xc0 ? 2
                : (p[0] & 0xf0) == 0xe0 ? 3
                : (p[0] & 0xf8) == 0xf0 ? 4
                                        : 0;
        uint32_t c;

        if (n <= 1)
                return n;
        c = p[0] & (0x7f >> n);
        for (size_t i = 1; i < n; i++) {
                if ((p[i] & 0xc0) != 0x80)
                        return 0;
                c = c << 6 | (p[i] & 0x3f);
        }
        return c >= smallest[n] && is_allowed(c) ? n : 0;
}

/* What would end a line, move a cursor or turn the direction of what follows: C0, DEL, C1, separators of
 * lines, bidirectional controls. */
static bool is_control(const char *s, size_t n) {
        const unsigned char *p = (const unsigned char *) s;

        if (n == 1)
                return p[0] < ' ' || p[0] == 0x7f;
        if (n == 2)
                return p[0] == 0xc2 && p[1] < 0xa0;
        if (n == 3 && p[0] == 0xe2 && p[1] == 0x80)
                return p[2] >= 0xa8 && p[2] <= 0xae;
        return n == 3 && p[0] == 0xe2 && p[1] == 0x81 && p[2] >= 0xa6 && p[2] <= 0xa9;
}

static int hex_digit(char c) {
        return c >= '0' && c <= '9'    ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
}

/* The byte that "\xe4" at s stands for, -1 if s is no such thing. */
static int escaped_byte(const char *s) {
        int byte;

        if (s[0] != '\\' || s[1] != 'x' || hex_digit(s[2]) < 0 || hex_digit(s[3]) < 0)
                return -1;
        byte = hex_digit(s[2]) << 4 | hex_digit(s[3]);
        return byte > 0 ? byte : -1;
}

static bool looks_escaped(const char *s, size_t n) {
        return escaped_byte(s) >= 0;
}

/* Every character that is none, and every one that is_special says. */
static char *escape(const char *s, bool (*is_special)(const char *s, size_t n)) {
        char *copy = malloc(strlen(s) * 4 + 1), *out = copy;

        if (!copy)
                return NULL;
        while (*s) {
                size_t n = utf8_sequence(s);

                if (n > 0 && !is_special(s, n)) {
                        out = mempcpy(out, s, n);
                        s += n;
                        continue;
                }
                for (size_t i = 0; i < (n > 0 ? n : 1); i++)
                        out += sprintf(out, "\\x%02x", (unsigned char) s[i]);
                s += n > 0 ? n : 1;
        }
        *out = '\0';
        return copy;
}

char *utf8_escape(const char *s) {
        return escape(s, looks_escaped);
}

char *utf8_escape_line(const char *s) {
        return escape(s, is_control);
}

char *utf8_unescape(const char *s) {
        char *copy = strdup(s), *out = copy;

        if (!copy)
                return NULL;
        while (*s) {
                int byte = escaped_byte(s);

                *out++ = byte >= 0 ? (char) byte : *s;
                s += byte >= 0 ? strlen("\\xe4") : 1;
        }
        *out = '\0';
        return copy;
}
