/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/problems.h"

#include "ctl/exit-code.h"
#include "ctl/format.h"

static int print_problem(const Ctl *c, const Record *r) {
        bool is_mended = record_get_boolean(r, "mended");
        _cleanup_free_ char *path = format_escape(record_get_string(r, "path") ?: "?"),
                            *kind = format_escape(record_get_string(r, "kind") ?: "?"),
                            *text = format_escape(record_get_string(r, "text") ?: ""),
                            *advice = format_escape(record_get_string(r, "advice") ?: "");

        if (!path || !kind || !text || !advice)
                return -ENOMEM;
        (void) printf("%s: %s%s\n    %s\n", path, kind, is_mended ? " (mended)" : "", text);
        if (*advice && !is_mended)
                (void) printf("    -> %s\n", advice);
        return 0;
}

int problems_print(Ctl *c, const RecordList *l) {
        int r = 0;

        if (options_have(&c->options, OPTION_QUIET))
                return 0;
        for (size_t i = 0; i < l->n && r >= 0; i++)
                r = print_problem(c, &l->items[i]);
        return r;
}

int problems_exit_code(const RecordList *l) {
        for (size_t i = 0; i < l->n; i++)
                if (!record_get_boolean(&l->items[i], "mended"))
                        return EXIT_CODE_FAILURE;
        return EXIT_CODE_OK;
}
