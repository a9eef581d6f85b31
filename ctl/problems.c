/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/problems.h"

#include <string.h>

#include "base/utf8.h"
#include "ctl/exit-code.h"

static bool is_alike(const Record *r, const Record *other, const char *key) {
        return strcmp(record_get_string(r, key) ?: "", record_get_string(other, key) ?: "") == 0;
}

/* What to do is told once for many of a kind, and what it means unless it says more of the one. */
static bool is_explained(const Record *r, const Record *previous) {
        return previous && is_alike(r, previous, "kind") && is_alike(r, previous, "advice") &&
                record_get_boolean(r, "mended") == record_get_boolean(previous, "mended");
}

static int print_problem(const Record *r, const Record *previous) {
        bool is_mended = record_get_boolean(r, "mended"), is_known = is_explained(r, previous);
        _cleanup_free_ char *path = utf8_escape_line(record_get_string(r, "path") ?: "?"),
                            *kind = utf8_escape_line(record_get_string(r, "kind") ?: "?"),
                            *text = utf8_escape_line(record_get_string(r, "text") ?: ""),
                            *advice = utf8_escape_line(record_get_string(r, "advice") ?: "");

        if (!path || !kind || !text || !advice)
                return -ENOMEM;
        (void) printf("%s: %s%s\n", path, kind, is_mended ? " (mended)" : "");
        if (!is_known || !is_alike(r, previous, "text"))
                (void) printf("    %s\n", text);
        if (!is_known && *advice && !is_mended)
                (void) printf("    -> %s\n", advice);
        return 0;
}

int problems_print(Ctl *c, const RecordList *l) {
        int r = 0;

        if (options_have(&c->options, OPTION_QUIET))
                return 0;
        for (size_t i = 0; i < l->n && r >= 0; i++)
                r = print_problem(&l->items[i], i > 0 ? &l->items[i - 1] : NULL);
        return r;
}

int problems_exit_code(const RecordList *l) {
        for (size_t i = 0; i < l->n; i++)
                if (!record_get_boolean(&l->items[i], "mended"))
                        return EXIT_CODE_FAILURE;
        return EXIT_CODE_OK;
}
