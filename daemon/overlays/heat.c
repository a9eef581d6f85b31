/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "overlays/heat.h"

#include <math.h>
#include <string.h>
#include <uthash.h>

#define COLD 0.05 /* heat not worth remembering */

typedef struct Item {
        UT_hash_handle hh;
        double opens, misses; /* as of usec */
        float recent_opens, recent_misses, recent_saved;
        uint64_t usec;
        uint64_t n_opens;
        uint64_t not_before_usec;
        unsigned n_failures;
        bool is_refused;
        char path[];
} Item;

struct HeatTable {
        Item *items;
        double miss_worth; /* in opens */
};

double heat_decay(double heat, uint64_t elapsed_usec, uint64_t window_usec) {
        if (window_usec == 0)
                return 0;
        return window_usec == USEC_INFINITY ? heat
                                            : heat * exp(-(double) elapsed_usec / (double) window_usec);
}

bool heat_is_hot(double heat, uint64_t hot_opens) {
        return heat >= 0.5 && heat + 0.5 >= (double) hot_opens;
}

HeatTable *heat_table_new(void) {
        HeatTable *t = calloc(1, sizeof(HeatTable));

        if (t)
                t->miss_worth = 1;
        return t;
}

void heat_table_set_worth(HeatTable *t, uint64_t hot_opens, uint64_t hot_misses) {
        t->miss_worth =
                (double) (hot_opens > 0 ? hot_opens : 1) / (double) (hot_misses > 0 ? hot_misses : 1);
}

static void item_free(HeatTable *t, Item *i) {
        HASH_DEL(t->items, i);
        free(i);
}

HeatTable *heat_table_free(HeatTable *t) {
        Item *i, *next;

        if (!t)
                return NULL;
        HASH_ITER(hh, t->items, i, next) item_free(t, i);
        free(t);
        return NULL;
}

static Item *item_find(const HeatTable *t, const char *path) {
        Item *i;

        HASH_FIND_STR(t->items, path, i);
        return i;
}

static Item *item_get(HeatTable *t, const char *path, uint64_t now_usec) {
        Item *i = item_find(t, path);

        if (i)
                return i;
        i = malloc(sizeof(Item) + strlen(path) + 1);
        if (!i)
                return NULL;
        *i = (Item){ .usec = now_usec };
        strcpy(i->path, path);
        HASH_ADD_STR(t->items, path, i);
        return i;
}

static uint64_t item_age(const Item *i, uint64_t now_usec) {
        return now_usec > i->usec ? now_usec - i->usec : 0;
}

/* What is left of it, and what has come. */
static double grown(double before, uint64_t age, uint64_t window_usec, uint64_t n) {
        return heat_decay(before, age, window_usec) + (double) n;
}

int heat_table_add(HeatTable *t, const char *path, const Use *use, uint64_t now_usec, uint64_t window_usec) {
        Item *i = item_get(t, path, now_usec);
        uint64_t age;

        if (!i)
                return -ENOMEM;
        age = item_age(i, now_usec);
        i->opens = grown(i->opens, age, window_usec, use->counted);
        i->misses = grown(i->misses, age, window_usec, use->misses + use->searches * HEAT_SEARCH_MISSES);
        i->recent_opens = (float) grown(i->recent_opens, age, HEAT_RATE_USEC, use->opens);
        i->recent_misses = (float) grown(i->recent_misses, age, HEAT_RATE_USEC, use->misses);
        i->recent_saved = (float) grown(i->recent_saved, age, HEAT_RATE_USEC, use->saved);
        i->n_opens += use->opens;
        i->usec = now_usec;
        return 0;
}

int heat_table_restore(
        HeatTable *t, const char *path, double opens, double misses, uint64_t n_opens, uint64_t usec) {
        Item *i = item_get(t, path, usec);

        if (!i)
                return -ENOMEM;
        i->opens = opens;
        i->misses = misses;
        i->n_opens = n_opens;
        i->usec = usec;
        return 0;
}

double heat_rate(double recent, uint64_t elapsed_usec) {
        return heat_decay(recent, elapsed_usec, HEAT_RATE_USEC) / ((double) HEAT_RATE_USEC / USEC_PER_SEC);
}

static HeatEntry item_entry(const HeatTable *t, const Item *i, uint64_t now_usec, uint64_t window_usec) {
        uint64_t age = item_age(i, now_usec);
        double opens = heat_decay(i->opens, age, window_usec),
               misses = heat_decay(i->misses, age, window_usec);

        return (HeatEntry){
                .path = i->path,
                .heat = opens + misses * t->miss_worth,
                .opens = opens,
                .misses = misses,
                .open_rate = heat_rate(i->recent_opens, age),
                .miss_rate = heat_rate(i->recent_misses, age),
                .save_rate = heat_rate(i->recent_saved, age),
                .n_opens = i->n_opens,
                .not_before_usec = i->not_before_usec,
                .n_failures = i->n_failures,
                .is_refused = i->is_refused,
        };
}

int heat_table_get(
        const HeatTable *t, const char *path, uint64_t now_usec, uint64_t window_usec, HeatEntry *ret) {
        const Item *i = item_find(t, path);

        if (i)
                *ret = item_entry(t, i, now_usec, window_usec);
        return i != NULL;
}

void heat_table_note_failure(HeatTable *t, const char *path, uint64_t not_before_usec, bool is_refused) {
        Item *i = item_get(t, path, /* now_usec= */ 0);

        if (!i)
                return;
        i->n_failures++;
        i->not_before_usec = not_before_usec;
        i->is_refused = is_refused;
}

static void item_forgive(Item *i) {
        i->n_failures = 0;
        i->not_before_usec = 0;
        i->is_refused = false;
}

void heat_table_forgive(HeatTable *t, const char *path) {
        Item *i = item_find(t, path);

        if (i)
                item_forgive(i);
}

void heat_table_forgive_all(HeatTable *t) {
        for (Item *i = t->items; i; i = i->hh.next)
                item_forgive(i);
}

static void heat_table_remove(HeatTable *t, const char *path) {
        Item *i = item_find(t, path);

        if (i)
                item_free(t, i);
}

size_t heat_table_size(const HeatTable *t) {
        return HASH_COUNT(t->items);
}

static int compare_hotter(const void *a, const void *b) {
        const HeatEntry *x = a, *y = b;

        if (x->heat != y->heat)
                return x->heat > y->heat ? -1 : 1;
        return strcmp(x->path, y->path);
}

/* All entries, hottest first; the caller frees the array. */
static int sort_entries(const HeatTable *t, uint64_t now_usec, uint64_t window_usec, HeatEntry **ret) {
        HeatEntry *l = calloc(heat_table_size(t) + 1, sizeof(HeatEntry));
        size_t n = 0;

        if (!l)
                return -ENOMEM;
        for (const Item *i = t->items; i; i = i->hh.next)
                l[n++] = item_entry(t, i, now_usec, window_usec);
        qsort(l, n, sizeof(HeatEntry), compare_hotter);
        *ret = l;
        return 0;
}

void heat_table_trim(HeatTable *t, size_t max, uint64_t now_usec, uint64_t window_usec) {
        _cleanup_free_ HeatEntry *l = NULL;
        Item *i, *next;

        HASH_ITER(hh, t->items, i, next) {
                if (i->not_before_usec <= now_usec && item_entry(t, i, now_usec, window_usec).heat < COLD)
                        item_free(t, i);
        }
        if (heat_table_size(t) <= max || sort_entries(t, now_usec, window_usec, &l) < 0)
                return;
        for (size_t n = heat_table_size(t), k = max; k < n; k++)
                heat_table_remove(t, l[k].path);
}

int heat_table_foreach(
        const HeatTable *t,
        size_t most,
        uint64_t now_usec,
        uint64_t window_usec,
        int (*func)(const HeatEntry *e, void *userdata),
        void *userdata) {
        _cleanup_free_ HeatEntry *l = NULL;
        size_t n = heat_table_size(t);
        int r;

        r = sort_entries(t, now_usec, window_usec, &l);
        for (size_t i = 0; r >= 0 && i < n && (most == 0 || i < most); i++)
                r = func(l + i, userdata);
        return r;
}
