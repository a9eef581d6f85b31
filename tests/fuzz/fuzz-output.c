/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What ovlfinctl prints of names of any bytes, and of what a bus has brought: the JSON is read back, by a
 * reader that takes nothing else, as the same values; a table is UTF-8, each row a line, without control
 * characters. Input: how, width, then for each value its key, ended by NUL, a type, and the value. */
#include <inttypes.h>
#include <libsmartcols.h>
#include <locale.h>
#include <string.h>

#include "base/utf8.h"
#include "ctl/json.h"
#include "ctl/table.h"
#include "fuzz-bus.h"

#define DEPTH_MAX 4
#define FIELDS_MAX 12

static void fill(Record *r, Input *in, unsigned depth);

static char **take_strings(Input *in) {
        unsigned n = input_byte(in) % 4;
        char **l = calloc(n + 1, sizeof(char *));

        HOLDS(l);
        for (unsigned i = 0; i < n; i++) {
                _cleanup_free_ char *s = input_string(in);

                HOLDS((l[i] = utf8_escape(s)));
        }
        return l;
}

static void take_list(Record *r, const char *key, Input *in, unsigned depth, unsigned n, ValueType type) {
        RecordList l = { 0 };

        for (unsigned i = 0; i < n; i++) {
                Record one = { 0 };

                if (depth < DEPTH_MAX)
                        fill(&one, in, depth + 1);
                HOLDS(record_list_take(&l, &one) == 0);
        }
        record_take(r, key, (Value){ .type = type, .list = l });
}

static void fill_one(Record *r, Input *in, unsigned depth) {
        _cleanup_free_ char *name = input_string(in), *key = utf8_escape(name), *s = NULL;
        uint8_t type = input_byte(in);

        switch (type % 7) {
        case 0:
                s = input_string(in);
                record_set_name(r, key, s);
                break;
        case 1:
                record_set_number(r, key, input_number(in));
                break;
        case 2:
                record_take(
                        r, key,
                        (Value){ .type = VALUE_SIGNED, .number_signed = (int64_t) input_number(in) });
                break;
        case 3:
                record_set_boolean(r, key, type & 0x80);
                break;
        case 4:
                record_take(r, key, (Value){ .type = VALUE_STRINGS, .strings = take_strings(in) });
                break;
        case 5:
                take_list(r, key, in, depth, 1, VALUE_RECORD);
                break;
        default:
                take_list(r, key, in, depth, type % 3, VALUE_RECORDS);
        }
}

static void fill(Record *r, Input *in, unsigned depth) {
        for (unsigned n = 0; n < FIELDS_MAX && !input_is_empty(in) && *in->at != 0xfe; n++)
                fill_one(r, in, depth);
        (void) input_byte(in);
        HOLDS(record_error(r) == 0);
}

/* The reader: RFC 8259, in step with what is expected. */

static void skip_blanks(const char **p) {
        *p += strspn(*p, " \n");
}

static void expect(const char **p, const char *token) {
        skip_blanks(p);
        HOLDS(strncmp(*p, token, strlen(token)) == 0);
        *p += strlen(token);
}

static char read_escape(const char **p) {
        static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
        const char *found = strchr(from, **p);
        unsigned c;

        HOLDS(**p);
        (*p)++;
        if (found)
                return to[found - from];
        HOLDS((*p)[-1] == 'u' && sscanf(*p, "%4x", &c) == 1 && c > 0 && c < 0x80);
        *p += 4;
        return (char) c;
}

static void expect_string(const char **p, const char *s) {
        expect(p, "\"");
        while (**p != '"') {
                char c = *(*p)++;

                HOLDS((unsigned char) c >= ' ');
                HOLDS((c == '\\' ? read_escape(p) : c) == *s++);
        }
        HOLDS(*s == '\0');
        (*p)++;
}

static void expect_record(const char **p, const Record *r);

static void expect_list(const char **p, const RecordList *l) {
        expect(p, "[");
        for (size_t i = 0; i < l->n; i++) {
                if (i > 0)
                        expect(p, ",");
                expect_record(p, l->items + i);
        }
        expect(p, "]");
}

static void expect_strings(const char **p, char *const *l) {
        expect(p, "[");
        for (size_t i = 0; l[i]; i++) {
                if (i > 0)
                        expect(p, ",");
                expect_string(p, l[i]);
        }
        expect(p, "]");
}

static void expect_value(const char **p, const Value *v) {
        char number[32];

        switch (v->type) {
        case VALUE_STRING:
                expect_string(p, v->string);
                break;
        case VALUE_NUMBER:
                (void) snprintf(number, sizeof(number), "%" PRIu64, v->number);
                expect(p, number);
                break;
        case VALUE_SIGNED:
                (void) snprintf(number, sizeof(number), "%" PRId64, v->number_signed);
                expect(p, number);
                break;
        case VALUE_BOOLEAN:
                expect(p, v->boolean ? "true" : "false");
                break;
        case VALUE_STRINGS:
                expect_strings(p, v->strings);
                break;
        case VALUE_RECORD:
                expect_record(p, v->list.items);
                break;
        case VALUE_RECORDS:
                expect_list(p, &v->list);
                break;
        }
}

static void expect_record(const char **p, const Record *r) {
        expect(p, "{");
        for (size_t i = 0; i < r->n; i++) {
                if (i > 0)
                        expect(p, ",");
                expect_string(p, r->fields[i].key);
                expect(p, ":");
                expect_value(p, &r->fields[i].value);
        }
        expect(p, "}");
}

static void check_json(const Record *r, JsonFormat format) {
        _cleanup_free_ char *text = NULL;
        const char *p;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        HOLDS(f);
        json_print(f, format, r);
        (void) fclose(f);
        HOLDS(strlen(text) == size && fuzz_is_utf8(text));
        p = text;
        expect_record(&p, r);
        HOLDS(strcmp(p, "\n") == 0);
        HOLDS(format == JSON_PRETTY || strchr(text, '\n') == p);
}

static void check_text(const char *text, size_t n_lines) {
        HOLDS(fuzz_is_utf8(text));
        for (const char *p = text; *p; p++) {
                HOLDS((unsigned char) *p >= ' ' || *p == '\n');
                n_lines -= *p == '\n' && n_lines > 0;
        }
        HOLDS(n_lines == 0);
}

static void check_table(Record *r, unsigned width) {
        const TableColumn columns[] = {
                { .title = "FIRST", .key = r->fields[0].key, .flags = width & 1 ? SCOLS_FL_TRUNC : 0 },
                { .title = "MORE", .key = r->fields[r->n / 2].key, .flags = width & 2 ? SCOLS_FL_RIGHT : 0 },
                { .title = "LAST", .key = r->fields[r->n - 1].key, .flags = width & 4 ? SCOLS_FL_WRAP : 0 },
        };
        Ctl c = { .term.width = width };
        _cleanup_free_ char *text = NULL;
        FILE *before = stdout;
        size_t size;
        int k;

        stdout = open_memstream(&text, &size);
        HOLDS(stdout);
        k = table_print(&c, columns, ELEMENTSOF(columns), &(RecordList){ .items = r, .n = 1 });
        (void) fclose(stdout);
        stdout = before;
        HOLDS(k >= 0);
        check_text(text, 1);
}

static void check_values(const Record *r) {
        for (size_t i = 0; i < r->n; i++) {
                _cleanup_free_ char *text = value_to_text(&r->fields[i].value);

                HOLDS(text && !strchr(text, '\n'));
                check_text(text, 0);
        }
}

/* The way over the bus. */

static int append_value(sd_bus_message *m, Input *in) {
        uint8_t type = input_byte(in);

        switch (type % 9) {
        case 0: {
                _cleanup_free_ char *s = input_string(in), *escaped = utf8_escape(s);

                return sd_bus_message_append(m, "v", "s", escaped);
        }
        case 1:
                return sd_bus_message_append(m, "v", "x", (int64_t) input_number(in));
        case 2:
                return sd_bus_message_append(m, "v", "n", (int) (int16_t) input_number(in));
        case 3:
                return sd_bus_message_append(m, "v", "y", (int) input_byte(in));
        case 4:
                return sd_bus_message_append(m, "v", "as", 2, "one", "two\n");
        case 5:
                return sd_bus_message_append(m, "v", "a{st}", 1, "k", input_number(in));
        case 6:
                return sd_bus_message_append(m, "v", "d", (double) input_number(in));
        case 7:
                return sd_bus_message_append(m, "v", "(sa{sv})", "x", 1, "y", "v", "g", "a{sv}");
        default:
                return sd_bus_message_append(m, "v", "aa{sv}", 1, 2, "p", "s", "q", "r", "o", "/o");
        }
}

static void read_from_bus(Record *r, Input *in) {
        sd_bus_message *m = NULL;
        unsigned n = 0;

        HOLDS(sd_bus_message_new_method_call(fuzz_bus(), &m, "a.b", "/a", "a.b", "M") >= 0);
        HOLDS(sd_bus_message_open_container(m, 'a', "{sv}") >= 0);
        for (; n < FIELDS_MAX && !input_is_empty(in); n++) {
                _cleanup_free_ char *key = input_string(in), *escaped = utf8_escape(key);

                HOLDS(sd_bus_message_open_container(m, 'e', "sv") >= 0);
                HOLDS(sd_bus_message_append(m, "s", escaped) >= 0 && append_value(m, in) >= 0);
                HOLDS(sd_bus_message_close_container(m) >= 0);
        }
        HOLDS(sd_bus_message_close_container(m) >= 0 && sd_bus_message_seal(m, 1, 0) >= 0);
        HOLDS(record_read(r, m) >= 0 && r->n <= n);
        (void) sd_bus_message_unref(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        Input in = input_begin(data, size);
        uint8_t how = input_byte(&in), width = input_byte(&in);
        _cleanup_record_ Record r = { 0 };

        (void) setlocale(LC_ALL, "C.UTF-8");
        if (how & 1)
                read_from_bus(&r, &in);
        else
                fill(&r, &in, 0);
        record_drop_unknown(&r);
        check_json(&r, JSON_SHORT);
        check_json(&r, JSON_PRETTY);
        check_values(&r);
        if (r.n > 0)
                check_table(&r, width);
        return 0;
}
