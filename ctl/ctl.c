/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/ctl.h"

#include "ctl/json.h"

int ctl_print_json(Ctl *c, const char *name, RecordList *list) {
        _cleanup_record_ Record top = { 0 };

        record_take(&top, name, (Value){ .type = VALUE_RECORDS, .list = TAKE_STRUCT(*list) });
        if (!top.is_incomplete)
                json_print(stdout, c->options.json, &top);
        return record_error(&top);
}

bool ctl_want_legend(const Ctl *c) {
        return c->options.json == JSON_OFF && !options_have(&c->options, OPTION_NO_LEGEND);
}
