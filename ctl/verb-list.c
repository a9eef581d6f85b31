/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* list: the overlays that are configured, a line each, by name. It shows what the daemon has in memory; no
 * overlay is looked at anew. */
#include <libsmartcols.h>

#include "ctl/format.h"
#include "ctl/state-color.h"
#include "ctl/table.h"
#include "ctl/verbs.h"
#include "dbus/names.h"

static char *finalized_text(const Record *r) {
        const RecordList *counts = record_get_list(r, "directories");

        return format_count(counts->n > 0 ? record_get_number(&counts->items[0], "finalized", 0) : 0);
}

int verb_list(Ctl *c, int argc, char **argv) {
        static const TableColumn columns[] = {
                { "NAME", "name", 0, NULL, NULL },
                { "MOUNTPOINT", "mount_point", SCOLS_FL_TRUNC, NULL, NULL },
                { "STATE", "state", 0, overlay_state_text, overlay_state_color },
                { "SCHEME", "scheme", 0, NULL, NULL },
                { "FINALIZED", "directories", SCOLS_FL_RIGHT, finalized_text, NULL },
                { "REASON", "reason", SCOLS_FL_WRAP, NULL, NULL },
        };
        _cleanup_record_list_ RecordList list = { 0 };
        int r = client_list(&c->client, "ListOverlays", OVLFIND_OVERLAY_INTERFACE, &list);

        if (r < 0)
                return client_report(&c->client, r, "list the overlays");
        record_list_sort(&list, "name");
        return table_answer(c, "overlays", "No overlays configured.", columns, ELEMENTSOF(columns), &list);
}
