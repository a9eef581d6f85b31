/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/record.h"

#include <ctype.h>
#include <string.h>

#include "base/strv.h"
#include "base/utf8.h"

static void value_done(Value *v) {
        switch (v->type) {
        case VALUE_STRING:
                free(v->string);
                break;
        case VALUE_STRINGS:
                (void) strv_free(v->strings);
                break;
        case VALUE_RECORD:
        case VALUE_RECORDS:
                record_list_done(&v->list);
                break;
        case VALUE_NUMBER:
        case VALUE_SIGNED:
        case VALUE_BOOLEAN:
                break;
        }
        *v = (Value){ .type = VALUE_BOOLEAN };
}

static void field_done(Field *f) {
        free(f->key);
        value_done(&f->value);
}

void record_done(Record *r) {
        for (size_t i = 0; i < r->n; i++)
                field_done(&r->fields[i]);
        free(r->fields);
        *r = (Record){ 0 };
}

void record_list_done(RecordList *l) {
        for (size_t i = 0; i < l->n; i++)
                record_done(&l->items[i]);
        free(l->items);
        *l = (RecordList){ 0 };
}

static Field *record_find(const Record *r, const char *key) {
        for (size_t i = 0; i < r->n; i++)
                if (strcmp(r->fields[i].key, key) == 0)
                        return &r->fields[i];
        return NULL;
}

void record_take(Record *r, const char *key, Value v) {
        Field *f = record_find(r, key);
        char *k;

        if (f) {
                value_done(&f->value);
                f->value = v;
                return;
        }
        k = strdup(key);
        if (!k || !ARRAY_GROW(r->fields, r->n)) {
                r->is_incomplete = true;
                free(k);
                value_done(&v);
                return;
        }
        r->fields[r->n++] = (Field){ .key = k, .value = v };
}

static void take_string(Record *r, const char *key, char *s) {
        if (s)
                record_take(r, key, (Value){ .type = VALUE_STRING, .string = s });
        else
                r->is_incomplete = true;
}

void record_set_string(Record *r, const char *key, const char *s) {
        take_string(r, key, strdup(s));
}

void record_set_name(Record *r, const char *key, const char *s) {
        take_string(r, key, utf8_escape(s));
}

void record_set_number(Record *r, const char *key, uint64_t n) {
        record_take(r, key, (Value){ .type = VALUE_NUMBER, .number = n });
}

void record_set_boolean(Record *r, const char *key, bool b) {
        record_take(r, key, (Value){ .type = VALUE_BOOLEAN, .boolean = b });
}

int record_error(const Record *r) {
        return r->is_incomplete ? -ENOMEM : 0;
}

void record_remove(Record *r, const char *key) {
        Field *f = record_find(r, key);

        if (!f)
                return;
        field_done(f);
        memmove(f, f + 1, (size_t) (r->fields + r->n - (f + 1)) * sizeof(*f));
        r->n--;
}

const Value *record_get(const Record *r, const char *key) {
        const Field *f = record_find(r, key);

        return f ? &f->value : NULL;
}

static const Value *get_typed(const Record *r, const char *key, ValueType type) {
        const Value *v = record_get(r, key);

        return v && v->type == type ? v : NULL;
}

const char *record_get_string(const Record *r, const char *key) {
        const Value *v = get_typed(r, key, VALUE_STRING);

        return v ? v->string : NULL;
}

bool record_is(const Record *r, const char *key, const char *s) {
        return str_equal(record_get_string(r, key), s);
}

uint64_t record_get_number(const Record *r, const char *key, uint64_t fallback) {
        const Value *v = get_typed(r, key, VALUE_NUMBER);

        return v ? v->number : fallback;
}

bool record_get_boolean(const Record *r, const char *key) {
        const Value *v = get_typed(r, key, VALUE_BOOLEAN);

        return v && v->boolean;
}

char *const *record_get_strings(const Record *r, const char *key) {
        static char *const none[] = { NULL };
        const Value *v = get_typed(r, key, VALUE_STRINGS);

        return v ? v->strings : none;
}

const RecordList *record_get_list(const Record *r, const char *key) {
        static const RecordList none = { 0 };
        const Value *v = record_get(r, key);

        return v && (v->type == VALUE_RECORD || v->type == VALUE_RECORDS) ? &v->list : &none;
}

static bool is_unknown(const Field *f) {
        static const char *const optional[] = { "error_name", "error_message", "job", "plan", "problems" };
        size_t n = strlen(f->key);
        bool candidate = n > 5 && strcmp(f->key + n - 5, "_usec") == 0;

        for (size_t i = 0; i < ELEMENTSOF(optional); i++)
                candidate = candidate || strcmp(f->key, optional[i]) == 0;
        if (!candidate)
                return false;
        return (f->value.type == VALUE_NUMBER && f->value.number == 0) ||
                (f->value.type == VALUE_STRING && *f->value.string == '\0') ||
                (f->value.type == VALUE_RECORDS && f->value.list.n == 0);
}

void record_drop_unknown(Record *r) {
        for (size_t i = r->n; i > 0; i--)
                if (is_unknown(&r->fields[i - 1]))
                        record_remove(r, r->fields[i - 1].key);
}

int record_list_take(RecordList *l, Record *r) {
        if (r->is_incomplete || !ARRAY_GROW(l->items, l->n)) {
                record_done(r);
                return -ENOMEM;
        }
        l->items[l->n++] = TAKE_STRUCT(*r);
        return 0;
}

static int compare(const void *a, const void *b, void *key) {
        uint64_t x = record_get_number(a, key, 0), y = record_get_number(b, key, 0);
        int r = strcmp(record_get_string(a, key) ?: "", record_get_string(b, key) ?: "");

        return r != 0 ? r : x < y ? -1 : x > y;
}

void record_list_sort(RecordList *l, const char *key) {
        if (l->n > 1)
                qsort_r(l->items, l->n, sizeof(*l->items), compare, (void *) key);
}

char *record_key_from_property(const char *name) {
        char *key = malloc(2 * strlen(name) + 1), *o = key;

        if (!key)
                return NULL;
        for (const char *p = name; *p; p++) {
                bool word = p > name && isupper((unsigned char) *p) &&
                        (!isupper((unsigned char) p[-1]) || islower((unsigned char) p[1]));

                /* "USec" is one word; after it, lower-case letters go on as usual. */
                if (p > name && p[-1] == 'U' && strncmp(p, "Sec", 3) == 0)
                        word = false;
                if (word && o[-1] != '_')
                        *o++ = '_';
                *o++ = (char) tolower((unsigned char) *p);
        }
        *o = '\0';
        return key;
}
