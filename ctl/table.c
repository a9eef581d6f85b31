/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/table.h"

#include <inttypes.h>
#include <libsmartcols.h>
#include <string.h>

#include "base/str.h"
#include "base/utf8.h"
#include "ctl/exit-code.h"
#include "ctl/format.h"

#define WRAP_WIDTH_MIN 20 /* narrower explanations are no help */
#define CUT_WIDTH_MIN 12

static inline void table_unrefp(struct libscols_table **t) {
        if (*t)
                scols_unref_table(*t);
}

/* Appends to what is joined with commas; takes s. NULL on out of memory, which part may tell, too. */
static char *join(char *s, const char *part) {
        char *joined = part ? str_format("%s%s%s", s, *s ? ", " : "", part) : NULL;

        free(s);
        return joined;
}

static char *strings_to_text(char *const *l) {
        char *s = strdup("");

        for (; *l && s; l++) {
                _cleanup_free_ char *e = utf8_escape_line(*l);

                s = join(s, e);
        }
        return s;
}

static char *counts_to_text(const Record *r) {
        char *s = strdup("");

        for (size_t i = 0; i < r->n && s; i++) {
                const Value *v = &r->fields[i].value;
                _cleanup_free_ char *part = NULL, *key = utf8_escape_line(r->fields[i].key);

                if (v->type != VALUE_NUMBER || v->number == 0)
                        continue;
                part = key ? str_format("%" PRIu64 " %s", v->number, key) : NULL;
                s = join(s, part);
        }
        return s;
}

char *value_to_text(const Value *v) {
        switch (v ? v->type : VALUE_STRING) {
        case VALUE_STRING:
                return utf8_escape_line(v ? v->string : "");
        case VALUE_NUMBER:
                return str_format("%" PRIu64, v->number);
        case VALUE_SIGNED:
                return str_format("%" PRId64, v->number_signed);
        case VALUE_BOOLEAN:
                return strdup(v->boolean ? "yes" : "no");
        case VALUE_STRINGS:
                return strings_to_text(v->strings);
        case VALUE_RECORD:
                return counts_to_text(&v->list.items[0]);
        case VALUE_RECORDS:
                return str_format("%zu", v->list.n);
        }
        return strdup("");
}

static int cell_fill(
        const Ctl *c,
        const TableColumn *column,
        const Record *record,
        struct libscols_line *line,
        size_t i) {
        _cleanup_free_ char *text =
                column->text ? column->text(record) : value_to_text(record_get(record, column->key));
        Color color = column->color ? column->color(record_get_string(record, "state")) : COLOR_NONE;
        int r = text ? scols_line_set_data(line, i, text) : -ENOMEM;

        if (r < 0)
                return r;
        if (color == COLOR_NONE || !c->term.has_color)
                return 0;
        return scols_cell_set_color(scols_line_get_cell(line, i), term_color(&c->term, color));
}

static int table_add_line(
        const Ctl *c,
        struct libscols_table *table,
        const TableColumn *columns,
        size_t n,
        const Record *record) {
        struct libscols_line *line = scols_table_new_line(table, /* parent= */ NULL);
        int r = line ? record_error(record) : -ENOMEM;

        for (size_t i = 0; i < n && r >= 0; i++)
                r = cell_fill(c, &columns[i], record, line, i);
        return r;
}

static int table_setup(const Ctl *c, struct libscols_table *table, const TableColumn *columns, size_t n) {
        (void) scols_table_enable_noheadings(table, !ctl_want_legend(c));
        (void) scols_table_enable_colors(table, c->term.has_color);
        /* All cells are escaped; it would write the backslash of an escape as one more. */
        (void) scols_table_enable_noencoding(table, true);
        /* Behind a pager stdout is a pipe, yet the width is the terminal's. */
        (void) scols_table_set_termforce(
                table, c->term.width > 0 ? SCOLS_TERMFORCE_ALWAYS : SCOLS_TERMFORCE_NEVER);
        if (c->term.width > 0)
                (void) scols_table_set_termwidth(table, c->term.width);
        for (size_t i = 0; i < n; i++) {
                /* What may be cut is cut by table_fit(), with a mark. */
                struct libscols_column *column = scols_table_new_column(
                        table, columns[i].title, /* whint= */ 0, columns[i].flags & ~SCOLS_FL_TRUNC);

                if (!column)
                        return -ENOMEM;
                if (!(columns[i].flags & SCOLS_FL_WRAP))
                        continue;
                /* Lines are those the text has; by itself the library would break words. */
                (void) scols_column_set_safechars(column, "\n");
                (void) scols_column_set_wrapfunc(
                        column, scols_wrapnl_chunksize, scols_wrapnl_nextchunk, /* userdata= */ NULL);
        }
        return 0;
}

static struct libscols_cell *table_cell(struct libscols_table *table, size_t line, size_t column) {
        return scols_line_get_cell(scols_table_get_line(table, line), column);
}

static size_t column_width(const Ctl *c, struct libscols_table *table, const char *title, size_t column) {
        size_t widest = ctl_want_legend(c) ? format_width(title) : 0;

        for (size_t i = 0; i < scols_table_get_nlines(table); i++) {
                size_t width = format_width(scols_cell_get_data(table_cell(table, i, column)) ?: "");

                widest = width > widest ? width : widest;
        }
        return widest;
}

static int wrap_column(struct libscols_table *table, size_t column, size_t width) {
        int r = 0;

        for (size_t i = 0; i < scols_table_get_nlines(table) && r >= 0; i++) {
                struct libscols_cell *cell = table_cell(table, i, column);
                _cleanup_free_ char *text = format_wrap(scols_cell_get_data(cell) ?: "", width);

                r = text ? scols_cell_set_data(cell, text) : -ENOMEM;
        }
        return r;
}

/* The end of a path that fits into width columns; marks that are set on the character before go with it. */
static const char *path_tail(const char *path, size_t width) {
        size_t excess = format_width(path) - width;
        const char *p = path + format_fitting(path, excess);

        if (format_width(p) > width)
                p += utf8_sequence(p);
        return p + format_fitting(p, 0);
}

/* Of a path the end tells most, of everything else the beginning. */
static int cut_cell(struct libscols_cell *cell, size_t width) {
        const char *text = scols_cell_get_data(cell) ?: "", *mark = term_ellipsis();
        size_t mark_width = format_width(mark);
        _cleanup_free_ char *cut = NULL;

        if (format_width(text) <= width || width <= mark_width)
                return 0;
        width -= mark_width;
        if (*text == '/')
                cut = str_format("%s%s", mark, path_tail(text, width));
        else
                cut = str_format("%.*s%s", (int) format_fitting(text, width), text, mark);
        return cut ? scols_cell_set_data(cell, cut) : -ENOMEM;
}

static int cut_column(struct libscols_table *table, size_t column, size_t width) {
        int r = 0;

        for (size_t i = 0; i < scols_table_get_nlines(table) && r >= 0; i++)
                r = cut_cell(table_cell(table, i, column), width);
        return r;
}

/* The last column gets what the others leave, and takes from those that may be cut what it needs at least.
 */
static int table_fit(const Ctl *c, struct libscols_table *table, const TableColumn *columns, size_t n) {
        bool is_wrapped = columns[n - 1].flags & SCOLS_FL_WRAP;
        size_t need = 0, last = column_width(c, table, columns[n - 1].title, n - 1);
        int r = 0;

        if (c->term.width == 0)
                return 0;
        for (size_t i = 0; i + 1 < n; i++)
                need += column_width(c, table, columns[i].title, i) + 1;
        if (is_wrapped && need + last > c->term.width) {
                size_t most = c->term.width > need + WRAP_WIDTH_MIN ? c->term.width - need : WRAP_WIDTH_MIN;

                last = last < most ? last : most;
                r = wrap_column(table, n - 1, last);
        }
        need += last;
        for (size_t i = 0; i < n && r >= 0 && need > c->term.width; i++) {
                size_t width = column_width(c, table, columns[i].title, i), excess = need - c->term.width;

                if (!(columns[i].flags & SCOLS_FL_TRUNC) || width <= CUT_WIDTH_MIN)
                        continue;
                excess = excess < width - CUT_WIDTH_MIN ? excess : width - CUT_WIDTH_MIN;
                r = cut_column(table, i, width - excess);
                need -= excess;
        }
        return r;
}

int table_print(Ctl *c, const TableColumn *columns, size_t n_columns, const RecordList *list) {
        _cleanup_(table_unrefp) struct libscols_table *table = scols_new_table();
        int r;

        if (!table)
                return -ENOMEM;
        r = table_setup(c, table, columns, n_columns);
        for (size_t i = 0; i < list->n && r >= 0; i++)
                r = table_add_line(c, table, columns, n_columns, &list->items[i]);
        if (r >= 0)
                r = table_fit(c, table, columns, n_columns);
        return r < 0 ? r : scols_print_table(table);
}

int table_answer(
        Ctl *c,
        const char *name,
        const char *none,
        const TableColumn *columns,
        size_t n_columns,
        RecordList *list) {
        int r = 0;

        if (c->options.json != JSON_OFF)
                r = ctl_print_json(c, name, list);
        else if (list->n > 0) {
                term_open_pager(&c->term);
                r = table_print(c, columns, n_columns, list);
        } else if (ctl_want_legend(c))
                (void) puts(none);
        return r < 0 ? print_oom() : EXIT_CODE_OK;
}
