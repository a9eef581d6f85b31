/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* blockers: who uses an overlay, or stands in an old tree. The daemon's worker finds them; here they are
 * only listed, in the order in which they came. Without an argument every overlay that is mounted is asked
 * about, one after the other. */
#include <libsmartcols.h>
#include <string.h>

#include "base/str.h"
#include "base/utf8.h"
#include "ctl/table.h"
#include "ctl/target.h"
#include "ctl/verbs.h"
#include "dbus/names.h"

/* Asks about one overlay or path; appends to *l. */
static int add_blockers(Ctl *c, const char *subject, RecordList *l) {
        _cleanup_record_list_ RecordList blockers = { 0 };
        int r = client_call_list(&c->client, "ListBlockers", &blockers, "s", subject);

        for (size_t i = 0; i < blockers.n && r >= 0; i++) {
                /* 0 stands for nobody in particular. */
                if (record_get_number(&blockers.items[i], "pid", 0) == 0) {
                        record_remove(&blockers.items[i], "pid");
                        record_remove(&blockers.items[i], "command");
                }
                r = record_list_take(l, &blockers.items[i]);
        }
        return r;
}

/* A mount elsewhere is told by both its ends. */
static char *path_text(const Record *r) {
        const char *path = record_get_string(r, "path"), *mount_point = record_get_string(r, "mount_point");
        _cleanup_free_ char *p = utf8_escape_line(path ?: ""), *m = utf8_escape_line(mount_point ?: "");
        bool is_layer = record_is(r, "kind", "layer");

        if (!p || !m)
                return NULL;
        return mount_point
                ? str_format("%s (%s %s)", p, is_layer ? "layer of the overlay at" : "mounted at", m)
                : TAKE_PTR(p);
}

static int print_blockers(Ctl *c, RecordList *l) {
        static const TableColumn columns[] = {
                { "PID", "pid", SCOLS_FL_RIGHT, NULL, NULL },
                { "COMMAND", "command", 0, NULL, NULL },
                { "KIND", "kind", 0, NULL, NULL },
                { "BLOCKS", "blocks", 0, NULL, NULL },
                { "PATH", "path", 0, path_text, NULL },
        };

        return table_answer(c, "blockers", "No blockers.", columns, ELEMENTSOF(columns), l);
}

static int blockers_of_one(Ctl *c, const char *argument) {
        _cleanup_record_list_ RecordList l = { 0 };
        _cleanup_free_ char *path = NULL;
        int r;

        if (argument_is_path(argument)) {
                r = path_resolve(c, "list blockers of", argument, &path);
                if (r != 0)
                        return r;
        }
        r = add_blockers(c, path ?: argument, &l);
        if (r < 0)
                return client_report(&c->client, r, "list blockers of '%s'", argument);
        return print_blockers(c, &l);
}

static int blockers_of_all(Ctl *c) {
        _cleanup_record_list_ RecordList overlays = { 0 }, l = { 0 };
        int r = client_list(&c->client, "ListOverlays", OVLFIND_OVERLAY_INTERFACE, &overlays);

        if (r < 0)
                return client_report(&c->client, r, "list blockers");
        for (size_t i = 0; i < overlays.n; i++) {
                const char *name = record_get_string(&overlays.items[i], "name");

                if (!name ||
                    record_is(&overlays.items[i], "state", "absent")) /* nobody uses what is not mounted */
                        continue;
                r = add_blockers(c, name, &l);
                if (r < 0)
                        return client_report(&c->client, r, "list blockers of '%s'", name);
        }
        return print_blockers(c, &l);
}

int verb_blockers(Ctl *c, int argc, char **argv) {
        return argc > 0 ? blockers_of_one(c, argv[0]) : blockers_of_all(c);
}
