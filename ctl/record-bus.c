/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Records out of D-Bus messages: names become snake_case, values their types of record.h. Nothing here
 * knows what a key means. What has no word in JSON is skipped, so that a newer daemon with other types is
 * understood as far as it can be. */
#include <string.h>

#include "ctl/record.h"

static int read_string(sd_bus_message *m, char type, Value *ret) {
        const char *s;
        int r = sd_bus_message_read_basic(m, type, &s);

        if (r < 0)
                return r;
        *ret = (Value){ .type = VALUE_STRING, .string = strdup(s) };
        return ret->string ? 1 : -ENOMEM;
}

/* Integers of all widths; the signed ones only become VALUE_SIGNED when they are negative. */
static int read_integer(sd_bus_message *m, char type, Value *ret) {
        union {
                uint8_t y;
                int16_t n;
                uint16_t q;
                int32_t i;
                uint32_t u;
                int64_t x;
                uint64_t t;
        } v = { 0 };
        int64_t s = 0;
        int r = sd_bus_message_read_basic(m, type, &v);

        if (r < 0)
                return r;
        if (type == 'n' || type == 'i' || type == 'x')
                s = type == 'n' ? v.n : type == 'i' ? v.i : v.x;
        if (s < 0)
                *ret = (Value){ .type = VALUE_SIGNED, .number_signed = s };
        else
                *ret = (Value){
                        .type = VALUE_NUMBER,
                        .number = type == 'y' ? v.y
                                : type == 'q' ? v.q
                                : type == 'u' ? v.u
                                : type == 't' ? v.t
                                              : (uint64_t) s,
                };
        return 1;
}

static int read_boolean(sd_bus_message *m, Value *ret) {
        int b, r;

        r = sd_bus_message_read_basic(m, 'b', &b);
        if (r < 0)
                return r;
        *ret = (Value){ .type = VALUE_BOOLEAN, .boolean = b };
        return 1;
}

static int read_strings(sd_bus_message *m, Value *ret) {
        char **l = NULL;
        int r = sd_bus_message_read_strv(m, &l);

        if (r < 0)
                return r;
        if (!l)
                l = calloc(1, sizeof(*l));
        *ret = (Value){ .type = VALUE_STRINGS, .strings = l };
        return l ? 1 : -ENOMEM;
}

static int read_dict(sd_bus_message *m, Value *ret) {
        _cleanup_record_ Record record = { 0 };
        RecordList l = { 0 };
        int r = record_read(&record, m);

        if (r >= 0)
                r = record_list_take(&l, &record);
        if (r < 0)
                return r;
        *ret = (Value){ .type = VALUE_RECORD, .list = l };
        return 1;
}

static int read_dicts(sd_bus_message *m, Value *ret) {
        _cleanup_record_list_ RecordList l = { 0 };
        int r = record_list_read(&l, m);

        if (r < 0)
                return r;
        *ret = (Value){ .type = VALUE_RECORDS, .list = TAKE_STRUCT(l) };
        return 1;
}

/* Whether it is an array of dictionaries that record_read() understands: a{sv}, a{su}, ... */
static bool is_dict(const char *contents) {
        return contents && strlen(contents) == 4 && contents[0] == '{' && contents[1] == 's' &&
                strchr("vustbxi", contents[2]);
}

static int read_value(sd_bus_message *m, Value *ret);

static int read_variant(sd_bus_message *m, const char *contents, Value *ret) {
        int r = sd_bus_message_enter_container(m, 'v', contents), found;

        if (r < 0)
                return r;
        found = read_value(m, ret);
        if (found < 0)
                return found;
        r = sd_bus_message_exit_container(m);
        return r < 0 ? r : found;
}

/* 1 and *ret set; 0 and skipped when JSON has no word for it. */
static int read_value(sd_bus_message *m, Value *ret) {
        const char *contents;
        char type;
        int r = sd_bus_message_peek_type(m, &type, &contents);

        if (r <= 0)
                return r < 0 ? r : -EBADMSG;
        if (type == 'v')
                return read_variant(m, contents, ret);
        if (strchr("sog", type))
                return read_string(m, type, ret);
        if (strchr("ynqiuxt", type))
                return read_integer(m, type, ret);
        if (type == 'b')
                return read_boolean(m, ret);
        if (type == 'a' && (strcmp(contents, "s") == 0 || strcmp(contents, "o") == 0))
                return read_strings(m, ret);
        if (type == 'a' && is_dict(contents))
                return read_dict(m, ret);
        if (type == 'a' && contents[0] == 'a' && is_dict(contents + 1))
                return read_dicts(m, ret);
        r = sd_bus_message_skip(m, NULL);
        return r < 0 ? r : 0;
}

int record_read_value(Record *record, const char *key, sd_bus_message *m) {
        Value v;
        int r = read_value(m, &v);

        if (r > 0)
                record_take(record, key, v);
        return r < 0 ? r : record_error(record);
}

static int read_entry(Record *record, sd_bus_message *m) {
        _cleanup_free_ char *key = NULL;
        const char *name;
        int r = sd_bus_message_read_basic(m, 's', &name);

        if (r < 0)
                return r;
        key = record_key_from_property(name);
        return key ? record_read_value(record, key, m) : -ENOMEM;
}

int record_read(Record *record, sd_bus_message *m) {
        const char *contents, *entry;
        char type;
        int r = sd_bus_message_peek_type(m, &type, &contents);

        if (r <= 0)
                return r < 0 ? r : -EBADMSG;
        if (type != 'a' || !is_dict(contents))
                return -EBADMSG;
        r = sd_bus_message_enter_container(m, 'a', contents);
        while (r >= 0 && (r = sd_bus_message_peek_type(m, &type, &entry)) > 0) {
                r = sd_bus_message_enter_container(m, 'e', entry);
                if (r >= 0)
                        r = read_entry(record, m);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

int record_list_read(RecordList *l, sd_bus_message *m) {
        const char *contents;
        char type;
        int r = sd_bus_message_peek_type(m, &type, &contents);

        if (r <= 0)
                return r < 0 ? r : -EBADMSG;
        if (type != 'a')
                return -EBADMSG;
        r = sd_bus_message_enter_container(m, 'a', contents);
        while (r >= 0 && (r = sd_bus_message_at_end(m, /* complete= */ false)) == 0) {
                _cleanup_record_ Record record = { 0 };

                r = record_read(&record, m);
                if (r >= 0)
                        r = record_list_take(l, &record);
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}
