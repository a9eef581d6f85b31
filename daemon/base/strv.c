/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/strv.h"

#include <string.h>

size_t strv_length(char *const *l) {
        size_t n = 0;

        STRV_FOREACH (s, l)
                n++;
        return n;
}

bool strv_contains(char *const *l, const char *s) {
        STRV_FOREACH (i, l)
                if (strcmp(*i, s) == 0)
                        return true;
        return false;
}

char **strv_free(char **l) {
        STRV_FOREACH (s, l)
                free(*s);
        free(l);
        return NULL;
}

int strv_push(char ***l, char **s) {
        size_t n = strv_length(*l);

        if (!ARRAY_GROW(*l, n + 1))
                return -ENOMEM;
        (*l)[n] = TAKE_PTR(*s);
        (*l)[n + 1] = NULL;
        return 0;
}

int strv_extend(char ***l, const char *s) {
        _cleanup_free_ char *copy = strdup(s);

        return copy ? strv_push(l, &copy) : -ENOMEM;
}

int strv_copy(char *const *a, char ***ret) {
        _cleanup_strv_free_ char **l = NULL;

        STRV_FOREACH (s, a)
                if (strv_extend(&l, *s) < 0)
                        return -ENOMEM;
        *ret = TAKE_PTR(l);
        return 0;
}

char *strv_join(char *const *l) {
        size_t size = 1;
        char *joined, *p;

        STRV_FOREACH (s, l)
                size += strlen(*s) + 1;
        joined = p = calloc(1, size);
        STRV_FOREACH (s, joined ? l : NULL)
                p += sprintf(p, "%s%s", p > joined ? " " : "", *s);
        return joined;
}
