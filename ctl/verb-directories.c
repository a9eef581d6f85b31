/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* directories: what the daemon knows of directories, from its memory. is-finalized: one directory, looked
 * at anew, with an exit code for scripts. Filters are the daemon's where it has them; merged directories
 * are not listed unless they are asked for. */
#include <libsmartcols.h>
#include <string.h>

#include "base/states.h"
#include "base/utf8.h"
#include "ctl/format.h"
#include "ctl/state-color.h"
#include "ctl/table.h"
#include "ctl/target.h"
#include "ctl/verbs.h"

static char *since_text(const Record *r) {
        uint64_t usec = record_get_number(r, "finalized_usec", 0);

        return usec > 0 ? format_timestamp(usec) : strdup("");
}

#define STATES "merged, copying, copied-up, pending, finalized, stale, gone, broken, excluded, local"

static bool is_state(const char *s) {
        return directory_state_from_string(s) >= 0;
}

/* The filter is the daemon's where it can be: a list of one state and the path. */
static int list_directories(Ctl *c, const char *overlay, const char *below, RecordList *ret) {
        const char *state =
                c->options.n_states == 1 && !strchr(c->options.states[0], ',') ? c->options.states[0] : NULL;

        /* As many pairs count as the number before them says. */
        return client_call_list(
                &c->client, "ListDirectories", ret, "sa{sv}", overlay, (state != NULL) + (below != NULL),
                state ? "state" : "path", "s", state ?: below, "path", "s", below);
}

static bool is_wanted(const Ctl *c, const Record *r) {
        const char *state = record_get_string(r, "state");

        if (!state)
                return false;
        if (c->options.n_states > 0)
                return options_want_state(&c->options, state);
        return directory_state_from_string(state) != DIRECTORY_MERGED;
}

static void keep_wanted(const Ctl *c, RecordList *l) {
        size_t n = 0;

        for (size_t i = 0; i < l->n; i++)
                if (is_wanted(c, &l->items[i]))
                        l->items[n++] = l->items[i];
                else
                        record_done(&l->items[i]);
        l->n = n;
}

static int print_directories(Ctl *c, RecordList *list) {
        static const TableColumn columns[] = {
                { "PATH", "path", SCOLS_FL_TRUNC, NULL, NULL },
                { "STATE", "state", 0, NULL, directory_state_color },
                { "ENTRIES", "entries", SCOLS_FL_RIGHT, NULL, NULL },
                { "SINCE", "finalized_usec", 0, since_text, NULL },
                { "REASON", "reason", SCOLS_FL_WRAP, NULL, NULL },
        };

        return table_answer(c, "directories", "No directories.", columns, ELEMENTSOF(columns), list);
}

int verb_directories(Ctl *c, int argc, char **argv) {
        _cleanup_free_ char *overlay = NULL, *below = NULL;
        _cleanup_record_list_ RecordList list = { 0 };
        int r = options_validate_states(&c->options, is_state, STATES);

        if (r != 0)
                return r;
        if (argc > 0) {
                r = overlay_resolve(c, "list directories of", argv[0], &overlay, &below);
                if (r != 0)
                        return r;
        }
        r = list_directories(c, overlay ?: "", below, &list);
        if (r < 0)
                return client_report(
                        &c->client, r, "list directories%s%s%s", argc > 0 ? " of '" : "",
                        argc > 0 ? argv[0] : "", argc > 0 ? "'" : "");
        keep_wanted(c, &list);
        record_list_sort(&list, "path");
        return print_directories(c, &list);
}

int verb_is_finalized(Ctl *c, int argc, char **argv) {
        _cleanup_record_list_ RecordList list = { 0 };
        _cleanup_record_ Record record = { 0 };
        _cleanup_free_ char *state = NULL;
        int code, r = directory_get(c, "look at", argv[0], &record);

        if (r != 0)
                return r;
        state = utf8_escape_line(record_get_string(&record, "state") ?: "unknown");
        if (!state)
                return print_oom();
        code = strcmp(state, "finalized") == 0 ? EXIT_CODE_OK : EXIT_CODE_FAILURE;
        if (c->options.json != JSON_OFF) {
                if (record_list_take(&list, &record) < 0 || ctl_print_json(c, "directories", &list) < 0)
                        return print_oom();
        } else if (!options_have(&c->options, OPTION_QUIET))
                (void) puts(state);
        return code;
}
