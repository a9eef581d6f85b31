/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* list: the overlays, a line each. */
#include <libsmartcols.h>
#include <string.h>

#include "ctl/format.h"
#include "ctl/state-color.h"
#include "ctl/table.h"
#include "ctl/verbs.h"
#include "dbus/names.h"

static int finalized_text(const Record *r, char **ret) {
        const RecordList *counts = record_get_list(r, "directories");
        uint64_t n = counts->n > 0 ? record_get_number(&counts->items[0], "finalized", 0) : 0;

        *ret = format_count(n);
        return *ret ? 0 : -ENOMEM;
}

static Color state_color(const Record *r) {
        return overlay_state_color(record_get_string(r, "state"));
}

static int compare_names(const void *a, const void *b) {
        return strcmp(record_get_string(a, "name") ?: "", record_get_string(b, "name") ?: "");
}

int verb_list(Ctl *c, int argc, char **argv) {
        static const TableColumn columns[] = {
                { "NAME", "name", 0, NULL, NULL },
                { "MOUNTPOINT", "mount_point", SCOLS_FL_TRUNC, NULL, NULL },
                { "STATE", "state", 0, overlay_state_text, state_color },
                { "SCHEME", "scheme", 0, NULL, NULL },
                { "FINALIZED", "directories", SCOLS_FL_RIGHT, finalized_text, NULL },
                { "REASON", "reason", SCOLS_FL_WRAP, NULL, NULL },
        };
        _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
        _cleanup_record_list_ RecordList list = { 0 };
        int r;

        r = client_list(&c->client, "ListOverlays", OVLFIND_OVERLAY_INTERFACE, &e, &list);
        if (r < 0)
                return (int) client_report(&c->client, &e, r, "list the overlays");
        record_list_sort(&list, compare_names);
        if (c->options.json != JSON_OFF)
                return ctl_print_json(c, "overlays", &list) < 0 ? print_oom() : EXIT_CODE_OK;
        if (list.n == 0) {
                if (ctl_want_legend(c))
                        (void) puts("No overlays configured.");
                return EXIT_CODE_OK;
        }
        term_open_pager(&c->term);
        return table_print(c, columns, ELEMENTSOF(columns), &list) < 0 ? print_oom() : EXIT_CODE_OK;
}
