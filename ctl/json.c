/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/json.h"

#include <inttypes.h>

#define INDENT 8

typedef struct Writer {
        FILE *f;
        bool pretty;
        int depth;
} Writer;

static void write_object(Writer *w, const Record *r);

static void write_string(Writer *w, const char *s) {
        (void) fputc('"', w->f);
        for (; *s; s++) {
                unsigned char c = (unsigned char) *s;

                if (c == '"' || c == '\\')
                        (void) fprintf(w->f, "\\%c", c);
                else if (c == '\n')
                        (void) fputs("\\n", w->f);
                else if (c == '\t')
                        (void) fputs("\\t", w->f);
                else if (c < 0x20 || c == 0x7f)
                        (void) fprintf(w->f, "\\u%04x", c);
                else
                        (void) fputc(c, w->f);
        }
        (void) fputc('"', w->f);
}

static void write_break(Writer *w) {
        if (w->pretty)
                (void) fprintf(w->f, "\n%*s", w->depth * INDENT, "");
}

/* Before each member or element: separator and line. */
static void write_next(Writer *w, bool first) {
        if (!first)
                (void) fputc(',', w->f);
        write_break(w);
}

static void write_open(Writer *w, char bracket) {
        (void) fputc(bracket, w->f);
        w->depth++;
}

static void write_close(Writer *w, char bracket, bool empty) {
        w->depth--;
        if (!empty)
                write_break(w);
        (void) fputc(bracket, w->f);
}

static void write_strings(Writer *w, char *const *l) {
        write_open(w, '[');
        for (char *const *s = l; *s; s++) {
                write_next(w, s == l);
                write_string(w, *s);
        }
        write_close(w, ']', !*l);
}

static void write_list(Writer *w, const RecordList *l) {
        write_open(w, '[');
        for (size_t i = 0; i < l->n; i++) {
                write_next(w, i == 0);
                write_object(w, &l->items[i]);
        }
        write_close(w, ']', l->n == 0);
}

static void write_value(Writer *w, const Value *v) {
        switch (v->type) {
        case VALUE_STRING:
                write_string(w, v->string);
                break;
        case VALUE_NUMBER:
                (void) fprintf(w->f, "%" PRIu64, v->number);
                break;
        case VALUE_SIGNED:
                (void) fprintf(w->f, "%" PRId64, v->number_signed);
                break;
        case VALUE_BOOLEAN:
                (void) fputs(v->boolean ? "true" : "false", w->f);
                break;
        case VALUE_STRINGS:
                write_strings(w, v->strings);
                break;
        case VALUE_RECORD:
                write_object(w, &v->list.items[0]);
                break;
        case VALUE_RECORDS:
                write_list(w, &v->list);
                break;
        }
}

static void write_object(Writer *w, const Record *r) {
        write_open(w, '{');
        for (size_t i = 0; i < r->n; i++) {
                write_next(w, i == 0);
                write_string(w, r->fields[i].key);
                (void) fputs(w->pretty ? ": " : ":", w->f);
                write_value(w, &r->fields[i].value);
        }
        write_close(w, '}', r->n == 0);
}

void json_print(FILE *f, JsonFormat format, const Record *object) {
        Writer w = { .f = f, .pretty = format == JSON_PRETTY };

        write_object(&w, object);
        (void) fputc('\n', f);
}
