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

#define MOST 512 /* looked at, whatever the screen shows */

static char *rate_text(const Record *r, const char *key) {
        return str_format("%.1f", (double) record_get_number(r, key, 0) / 60);
}

static char *opens_text(const Record *r) {
        return rate_text(r, "opens_per_minute");
}

static char *misses_text(const Record *r) {
        return rate_text(r, "misses_per_minute");
}

static char *saved_text(const Record *r) {
        return rate_text(r, "saved_per_minute");
}

static int compare(const void *a, const void *b, void *sort_key) {
        uint64_t x = record_get_number(a, sort_key, 0), y = record_get_number(b, sort_key, 0);

        if (x == y) {
                x = record_get_number(a, "heat", 0);
                y = record_get_number(b, "heat", 0);
        }
        return x == y   ? strcmp(record_get_string(a, "path") ?: "", record_get_string(b, "path") ?: "")
                : x > y ? -1
                        : 1;
}

static bool has_misses(const RecordList *l) {
        for (size_t i = 0; i < l->n; i++)
                if (record_get(&l->items[i], "misses_per_minute"))
                        return true;
        return false;
}

/* What hurts most comes first: what the lower is asked in vain, or what is known instead. */
static void sort(const Ctl *c, RecordList *l) {
        static const char *const keys[][2] = { { "misses", "misses_per_minute" },
                                               { "heat", "heat" },
                                               { "opens", "opens_per_minute" },
                                               { "saved", "saved_per_minute" } };
        const char *column = c->options.sort ?: has_misses(l) ? "misses" : "heat", *key = "heat";

        for (size_t i = 0; i < ELEMENTSOF(keys); i++)
                if (strcmp(keys[i][0], column) == 0)
                        key = keys[i][1];
        if (l->n > 1)
                qsort_r(l->items, l->n, sizeof(*l->items), compare, (void *) key);
}

/* Drops all but the first ones. */
static void cut(RecordList *l, size_t most) {
        while (l->n > most)
                record_done(&l->items[--l->n]);
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
                { "MISSES/S", "misses_per_minute", SCOLS_FL_RIGHT, misses_text, NULL },
                { "OPENS/S", "opens_per_minute", SCOLS_FL_RIGHT, opens_text, NULL },
                { "SAVED/S", "saved_per_minute", SCOLS_FL_RIGHT, saved_text, NULL },
                { "STATE", "state", 0, NULL, directory_state_color },
                { "PATH", "path", SCOLS_FL_TRUNC, NULL, NULL },
        };

        TableColumn shown[ELEMENTSOF(columns)];
        bool is_counted = has_misses(list);
        size_t n = 0;

        for (size_t i = c->term.width > 0 ? 0 : 1; i < ELEMENTSOF(columns); i++)
                if (is_counted || (columns[i].text != misses_text && columns[i].text != saved_text))
                        shown[n++] = columns[i];
        if (c->options.json != JSON_OFF)
                return ctl_print_json(c, "directories", list);
        if (is_live)
                (void) fputs("\033[H\033[J", stdout);
        note_hottest(list);
        if (list->n > 0)
                return table_print(c, shown, n, list);
        if (ctl_want_legend(c))
                (void) puts("Nothing is used.");
        return 0;
}

/* One look. */
static int look(Ctl *c, const char *overlay, bool is_live) {
        _cleanup_record_list_ RecordList list = { 0 };
        uint32_t most = is_live ? MOST : 0;
        int r;

        r = client_call_list(&c->client, "ListHot", &list, "su", overlay, most);
        if (r < 0)
                return client_report(&c->client, r, "list the directories that are used most");
        sort(c, &list);
        if (is_live)
                cut(&list, screen_rows() - ROWS_BESIDE);
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
