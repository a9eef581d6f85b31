/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the daemon says about a thing, as named values in the order they came: the common form between D-Bus
 * dictionaries on one side, tables and JSON on the other. Keys are those of the JSON interface (snake_case);
 * a value that is not known is absent. Keys this build has never heard of pass through. */
#pragma once

#include <systemd/sd-bus.h>

#include "base/macro.h"

typedef struct Record Record;

typedef struct RecordList {
        Record *items;
        size_t n;
} RecordList;

typedef enum ValueType {
        VALUE_STRING,
        VALUE_NUMBER,
        VALUE_SIGNED,
        VALUE_BOOLEAN,
        VALUE_STRINGS,
        VALUE_RECORD, /* as a list of one */
        VALUE_RECORDS,
} ValueType;

typedef struct Value {
        ValueType type;
        union {
                char *string;
                uint64_t number;
                int64_t number_signed;
                bool boolean;
                char **strings; /* NULL-terminated, never NULL */
                RecordList list;
        };
} Value;

typedef struct Field {
        char *key;
        Value value;
} Field;

struct Record {
        Field *fields;
        size_t n;
        bool is_incomplete; /* a value could not be kept, for want of memory */
};

void record_done(Record *r);
void record_list_done(RecordList *l);
#define _cleanup_record_ _cleanup_(record_done)
#define _cleanup_record_list_ _cleanup_(record_list_done)

/* Set or replace. What cannot be kept for want of memory makes the record incomplete, and no list takes it.
 * record_take() owns the value from the call on. */
void record_take(Record *r, const char *key, Value v);
void record_set_string(Record *r, const char *key, const char *s);
/* The same for what no bus has brought: names of files, and texts with such names. */
void record_set_name(Record *r, const char *key, const char *s);
void record_set_number(Record *r, const char *key, uint64_t n);
void record_set_boolean(Record *r, const char *key, bool b);
/* 0, or -ENOMEM for one that is incomplete. */
int record_error(const Record *r) _pure_;
void record_remove(Record *r, const char *key);

/* NULL or the fallback when absent or of another type; borrowed. */
const Value *record_get(const Record *r, const char *key) _pure_;
const char *record_get_string(const Record *r, const char *key) _pure_;
/* Whether the key has this string. */
bool record_is(const Record *r, const char *key, const char *s) _pure_;
uint64_t record_get_number(const Record *r, const char *key, uint64_t fallback) _pure_;
bool record_get_boolean(const Record *r, const char *key) _pure_;
char *const *record_get_strings(const Record *r, const char *key) _pure_; /* never NULL */
const RecordList *
record_get_list(const Record *r, const char *key) _pure_; /* of VALUE_RECORD too; never NULL */

/* Removes what the daemon says for "not known": times of 0, empty error names and messages, job 0, an empty
 * plan. */
void record_drop_unknown(Record *r);

/* Appends *r to the list and empties it. -ENOMEM, also for one that is incomplete. */
int record_list_take(RecordList *l, Record *r);
/* By the text or the number under the key. */
void record_list_sort(RecordList *l, const char *key);

/* Reads an a{sv} (or a{su}, a{st}, a{ss}) from the message into *r, replacing what is there. Names of
 * properties become keys: QueuedUSec -> queued_usec. Values of types JSON has no word for are skipped.
 * Negative errno. */
int record_read(Record *r, sd_bus_message *m);
/* Reads one value of any of those types, or a variant of it. */
int record_read_value(Record *r, const char *key, sd_bus_message *m);
/* Reads an aa{sv}. */
int record_list_read(RecordList *l, sd_bus_message *m);
/* The key a property name stands for; allocated. */
char *record_key_from_property(const char *name);
