/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/str.h"

#include <stdio.h>
#include <string.h>

char *str_formatv(const char *format, va_list ap) {
        char *s;

        return vasprintf(&s, format, ap) < 0 ? NULL : s;
}

char *str_format(const char *format, ...) {
        va_list ap;
        char *s;

        va_start(ap, format);
        s = str_formatv(format, ap);
        va_end(ap);
        return s;
}

bool str_equal(const char *a, const char *b) {
        return a == b || (a && b && strcmp(a, b) == 0);
}

int str_replace(char **p, const char *s) {
        char *copy = NULL;

        if (s) {
                copy = strdup(s);
                if (!copy)
                        return -ENOMEM;
        }
        free(*p);
        *p = copy;
        return 0;
}
