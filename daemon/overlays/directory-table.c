/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "overlays/directory-table.h"

#include <string.h>

#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(e) ((e)->is_lost = true)
#include <uthash.h>

#include "base/clock.h"
#include "base/path-util.h"

typedef struct Directory {
        UT_hash_handle hh;
        uint64_t entries;
        uint64_t merge_children;
        uint64_t finalized_usec;
        uint64_t next_try_usec;
        uint32_t survey; /* during which it was updated last */
        uint16_t reason_offset, scheme_offset, lower_offset;
        uint8_t state, n_tries;
        bool is_lost; /* the hash could not grow */
        char text[];  /* "/" + path, reason, scheme, lower path (the path when equal) */
} Directory;

#define TRY_PAUSE_USEC (60 * 60 * USEC_PER_SEC)
#define TRY_PAUSE_MAX_USEC (24 * TRY_PAUSE_USEC)

struct DirectoryTable {
        Directory *head;
        uint32_t survey;
        size_t counts[_DIRECTORY_STATE_MAX];
};

DirectoryTable *directory_table_new(void) {
        return calloc(1, sizeof(DirectoryTable));
}

static void directory_remove(DirectoryTable *t, Directory *d) {
        t->counts[d->state]--;
        HASH_DEL(t->head, d);
        free(d);
}

void directory_table_clear(DirectoryTable *t) {
        Directory *d, *next;

        HASH_ITER(hh, t->head, d, next)
        directory_remove(t, d);
}

DirectoryTable *directory_table_free(DirectoryTable *t) {
        if (!t)
                return NULL;
        directory_table_clear(t);
        free(t);
        return NULL;
}

/* Appends s to text at *used; returns its offset. */
static uint16_t text_add(char *text, size_t *used, const char *s) {
        size_t n = strlen(s) + 1, at = *used;

        memcpy(text + at, s, n);
        *used += n;
        return (uint16_t) at;
}

static Directory *directory_new(const DirectoryInfo *i) {
        bool same_lower = i->lower_path[0] == '/' && strcmp(i->path, i->lower_path + 1) == 0;
        size_t used = 1, n = strlen(i->path) + strlen(i->reason) + strlen(i->scheme) + 5;
        Directory *d;

        n += same_lower ? 0 : strlen(i->lower_path);
        if (n > UINT16_MAX)
                return NULL;
        d = malloc(sizeof(Directory) + n);
        if (!d)
                return NULL;
        *d = (Directory){
                .entries = i->entries,
                .merge_children = i->merge_children,
                .finalized_usec = i->finalized_usec,
                .state = (uint8_t) i->state,
        };
        d->text[0] = '/';
        (void) text_add(d->text, &used, i->path);
        d->reason_offset = text_add(d->text, &used, i->reason);
        d->scheme_offset = text_add(d->text, &used, i->scheme);
        d->lower_offset = same_lower ? 0 : text_add(d->text, &used, i->lower_path);
        return d;
}

static const char *directory_path(const Directory *d) {
        return d->text + 1;
}

static DirectoryInfo directory_info(const Directory *d) {
        return (DirectoryInfo){
                .path = directory_path(d),
                .state = d->state,
                .reason = d->text + d->reason_offset,
                .scheme = d->text + d->scheme_offset,
                .lower_path = d->text + d->lower_offset,
                .entries = d->entries,
                .merge_children = d->merge_children,
                .finalized_usec = d->finalized_usec,
        };
}

static Directory *directory_find(const DirectoryTable *t, const char *path) {
        Directory *d;

        HASH_FIND_STR(t->head, path, d);
        return d;
}

static int directory_insert(DirectoryTable *t, Directory *d) {
        HASH_ADD_KEYPTR(hh, t->head, directory_path(d), strlen(directory_path(d)), d);
        if (d->is_lost) {
                free(d);
                return -ENOMEM;
        }
        d->survey = t->survey;
        t->counts[d->state]++;
        return 0;
}

static bool is_as_before(const Directory *d, const Directory *old) {
        return d->state == old->state &&
                strcmp(d->text + d->reason_offset, old->text + old->reason_offset) == 0;
}

int directory_table_update(DirectoryTable *t, const DirectoryInfo *info) {
        Directory *d = NULL, *old = directory_find(t, info->path);
        DirectoryState before = old ? (DirectoryState) old->state : DIRECTORY_MERGED;

        if (info->state != DIRECTORY_MERGED) {
                d = directory_new(info);
                if (!d)
                        return -ENOMEM;
        }
        if (d && old && is_as_before(d, old)) {
                d->n_tries = old->n_tries;
                d->next_try_usec = old->next_try_usec;
        }
        if (old)
                directory_remove(t, old);
        if (d && directory_insert(t, d) < 0)
                return -ENOMEM;
        return before != info->state;
}

int directory_table_get(const DirectoryTable *t, const char *path, DirectoryInfo *ret) {
        const Directory *d = directory_find(t, path);

        if (!d)
                return 0;
        *ret = directory_info(d);
        return 1;
}

bool directory_table_try(DirectoryTable *t, const char *path, uint64_t now_usec) {
        Directory *d = directory_find(t, path);

        if (!d || now_usec < d->next_try_usec)
                return !d;
        d->next_try_usec = now_usec + pause_after(d->n_tries, TRY_PAUSE_USEC, TRY_PAUSE_MAX_USEC);
        d->n_tries += d->n_tries < UINT8_MAX;
        return true;
}

size_t directory_table_count(const DirectoryTable *t, DirectoryState state) {
        return t->counts[state];
}

void directory_table_survey_begin(DirectoryTable *t) {
        t->survey++;
}

void directory_table_survey_end(
        DirectoryTable *t, void (*func)(const DirectoryInfo *info, void *userdata), void *userdata) {
        Directory *d, *next;

        HASH_ITER(hh, t->head, d, next) {
                DirectoryInfo info = directory_info(d);

                if (d->survey == t->survey || d->state == DIRECTORY_EXCLUDED)
                        continue;
                func(&info, userdata);
                directory_remove(t, d);
        }
}

static int compare_paths(const void *a, const void *b) {
        const Directory *const *x = a, *const *y = b;

        return strcmp(directory_path(*x), directory_path(*y));
}

int directory_table_foreach(
        const DirectoryTable *t,
        const char *prefix,
        int (*func)(const DirectoryInfo *info, void *userdata),
        void *userdata) {
        _cleanup_free_ Directory **sorted = calloc(HASH_COUNT(t->head) + 1, sizeof(Directory *));
        size_t n = 0;

        if (!sorted)
                return -ENOMEM;
        for (Directory *d = t->head; d; d = d->hh.next)
                if (path_startswith(directory_path(d), prefix))
                        sorted[n++] = d;
        qsort(sorted, n, sizeof(Directory *), compare_paths);
        for (size_t i = 0; i < n; i++) {
                DirectoryInfo info = directory_info(sorted[i]);
                int r = func(&info, userdata);

                if (r < 0)
                        return r;
        }
        return 0;
}
