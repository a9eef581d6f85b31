/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* top: the directories that are used most, looked at again every second. The daemon's table is shown, not
 * the watcher's: what was not told yet is in the next look. On a terminal the screen is redrawn; in a pipe
 * one list is the answer, unless -n asks for more. */
#include <libsmartcols.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "base/str.h"
#include "ctl/state-color.h"
#include "ctl/table.h"
#include "ctl/target.h"
#include "ctl/verbs.h"

#define ROWS_DEFAULT 24
#define BAR_WIDTH 10
#define ROWS_BESIDE 3 /* of the screen: the head, the header line, and where the cursor stays */

static char *opens_text(const Record *r) {
        return str_format("%.1f", (double) record_get_number(r, "opens_per_minute", 0) / 60);
}

/* In parts of the hottest, which print_hot() has noted. */
static char *bar_text(const Record *r) {
        return term_bar(record_get_number(r, "heat", 0), record_get_number(r, "heat_most", 1), BAR_WIDTH);
}

static void note_hottest(RecordList *l) {
        uint64_t most = 1;

        for (size_t i = 0; i < l->n; i++) {
                uint64_t heat = record_get_number(&l->items[i], "heat", 0);

                most = heat > most ? heat : most;
        }
        for (size_t i = 0; i < l->n; i++)
                record_set_number(&l->items[i], "heat_most", most);
}

static unsigned screen_rows(void) {
        struct winsize ws = { 0 };

        return ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) >= 0 && ws.ws_row > ROWS_BESIDE ? ws.ws_row
                                                                                     : ROWS_DEFAULT;
}

static int print_hot(Ctl *c, RecordList *list, bool is_live) {
        static const TableColumn columns[] = {
                { "", "", 0, bar_text, NULL }, /* on a terminal */
                { "HEAT", "heat", SCOLS_FL_RIGHT, NULL, NULL },
                { "OPENS/S", "opens_per_minute", SCOLS_FL_RIGHT, opens_text, NULL },
                { "STATE", "state", 0, NULL, directory_state_color },
                { "PATH", "path", SCOLS_FL_TRUNC, NULL, NULL },
        };

        size_t skip = c->term.width > 0 ? 0 : 1;

        if (c->options.json != JSON_OFF)
                return ctl_print_json(c, "directories", list);
        if (is_live)
                (void) fputs("\033[H\033[J", stdout);
        note_hottest(list);
        if (list->n > 0)
                return table_print(c, columns + skip, ELEMENTSOF(columns) - skip, list);
        if (ctl_want_legend(c))
                (void) puts("Nothing is used.");
        return 0;
}

/* One look. */
static int look(Ctl *c, const char *overlay, bool is_live) {
        _cleanup_record_list_ RecordList list = { 0 };
        uint32_t most = is_live ? screen_rows() - ROWS_BESIDE : 0;
        int r;

        r = client_call_list(&c->client, "ListHot", &list, "su", overlay, most);
        if (r < 0)
                return client_report(&c->client, r, "list the directories that are used most");
        if (print_hot(c, &list, is_live) < 0)
                return print_oom();
        /* Nobody reads any more: that is told once, at the end. */
        return fflush(stdout) == 0 ? EXIT_CODE_OK : EXIT_CODE_FAILURE;
}

int verb_top(Ctl *c, int argc, char **argv) {
        bool is_live = c->term.is_terminal && c->options.json == JSON_OFF &&
                term_is_interactive(STDOUT_FILENO) && !options_have(&c->options, OPTION_BATCH);
        /* Whoever reads a pipe, and does not say how often, wants an answer. */
        bool is_endless = is_live && !options_have(&c->options, OPTION_ITERATIONS);
        uint32_t n = options_have(&c->options, OPTION_ITERATIONS) ? c->options.iterations : 1;
        _cleanup_free_ char *overlay = NULL;
        int r = 0;

        if (argc > 0)
                r = overlay_resolve(c, "show the directories of", argv[0], &overlay, NULL);
        for (uint32_t i = 0; r == 0 && (is_endless || i < n); i++) {
                if (i > 0)
                        (void) nanosleep(&(struct timespec){ .tv_sec = 1 }, NULL);
                r = look(c, overlay ?: "", is_live);
        }
        return r;
}
