/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* All records of an overlay, and what a comparison with the lower has found since. Looked up by the file
 * handle of a directory; of two records about one directory the later holds. A record of another upper is
 * left alone, a damaged one is counted and ignored. A record is removed only when none of its directories
 * exists, and the upper is synced before. */
#include <string.h>

#include "base/fs-util.h"
#include "base/hash.h"
#include "core/record/manifest.h"

#define FINDINGS ".findings" /* in the directory of records: handle, state, reason, each ended by NUL */

typedef struct Recorded {
        UT_hash_handle hh;
        const Node *node;
} Recorded;

struct Records {
        Tree **items;
        size_t n_items;
        char *upper; /* the one they are looked up for */
        Recorded *by_handle;
        Finding *findings;
        size_t n_findings;
        unsigned n_damaged;
};

static int index_node(Node *n, void *userdata) {
        Records *records = userdata;
        Recorded *r = NULL;

        if (!n->new_handle)
                return 0;
        HASH_FIND_STR(records->by_handle, n->new_handle, r);
        if (r) {
                /* The later record holds: a directory that was rebuilt has a new handle, so this is the same
                 * one. */
                if (r->node->tree->usec < n->tree->usec)
                        r->node = n;
                return 0;
        }
        r = calloc(1, sizeof(Recorded));
        if (!r)
                return -ENOMEM;
        r->node = n;
        HASH_ADD_KEYPTR(hh, records->by_handle, n->new_handle, strlen(n->new_handle), r);
        return 0;
}

static int load_record(int dfd, const char *name, unsigned char type, void *userdata) {
        _cleanup_(tree_freep) Tree *t = NULL;
        Records *records = userdata;
        int r;

        if (type != DT_REG || name[0] == '.')
                return 0;
        r = manifest_read(dfd, name, &t);
        if (r == -EBADMSG || r == -EIO) {
                records->n_damaged++;
                return 0;
        }
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        if (strcmp(t->upper, records->upper) != 0)
                return 0; /* of another upper that was mounted here: its handles mean nothing on this one */
        if (!ARRAY_GROW(records->items, records->n_items))
                return -ENOMEM;
        r = tree_foreach(t, index_node, records);
        records->items[records->n_items++] = TAKE_PTR(t);
        return r;
}

void findings_free(Finding *items, size_t n) {
        for (size_t i = 0; i < n; i++) {
                free(items[i].handle);
                free(items[i].reason);
        }
        free(items);
}

static const char *next_field(const char **at, const char *end) {
        const char *s = *at;

        if (s >= end)
                return NULL;
        *at = s + strlen(s) + 1;
        return s;
}

static int add_finding(Records *records, const char *handle, const char *state, const char *reason) {
        Finding *f;

        if (!ARRAY_GROW(records->findings, records->n_findings))
                return -ENOMEM;
        f = records->findings + records->n_findings++;
        *f = (Finding){ .handle = strdup(handle),
                        .state = directory_state_from_string(state),
                        .reason = strdup(reason) };
        return f->handle && f->reason ? 0 : -ENOMEM;
}

/* A list that is damaged is made anew by the next comparison. */
static int load_findings(int dfd, Records *records) {
        _cleanup_free_ char *data = NULL;
        const char *at, *end, *handle, *state, *reason;
        size_t size;
        int r = file_read(dfd, FINDINGS, MANIFEST_SIZE_MAX, &data, &size);

        if (r < 0)
                return r == -ENOENT ? 0 : r;
        at = data;
        end = data + size;
        while (r >= 0 && (handle = next_field(&at, end)) && (state = next_field(&at, end)) &&
               (reason = next_field(&at, end)))
                r = add_finding(records, handle, state, reason);
        return r;
}

int findings_write(int dfd, const Finding *items, size_t n) {
        _cleanup_free_ char *data = NULL;
        size_t size = 0;
        FILE *f = open_memstream(&data, &size);

        if (!f)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                (void) fprintf(
                        f, "%s%c%s%c%s%c", items[i].handle, 0, directory_state_to_string(items[i].state), 0,
                        items[i].reason, 0);
        if (fclose(f) != 0)
                return -ENOMEM;
        return file_write_atomic(dfd, FINDINGS, data, size);
}

const Finding *records_find_finding(const Records *records, const char *handle) {
        for (size_t i = 0; records && handle && i < records->n_findings; i++)
                if (strcmp(records->findings[i].handle, handle) == 0)
                        return records->findings + i;
        return NULL;
}

int records_load(int dfd, int upper_fd, Records **ret) {
        _cleanup_(records_freep) Records *records = calloc(1, sizeof(Records));
        int r;

        if (!records)
                return -ENOMEM;
        r = file_handle_at(upper_fd, "", &records->upper);
        if (r < 0)
                return r;
        r = dir_foreach(dfd, load_record, records);
        if (r >= 0)
                r = load_findings(dfd, records);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(records);
        return 0;
}

Records *records_free(Records *records) {
        Recorded *r, *next;

        if (!records)
                return NULL;
        HASH_ITER(hh, records->by_handle, r, next) {
                HASH_DEL(records->by_handle, r);
                free(r);
        }
        for (size_t i = 0; i < records->n_items; i++)
                tree_free(records->items[i]);
        free(records->items);
        findings_free(records->findings, records->n_findings);
        free(records->upper);
        free(records);
        return NULL;
}

const Node *records_find(const Records *records, const char *handle) {
        Recorded *r = NULL;

        if (records && handle)
                HASH_FIND_STR(records->by_handle, handle, r);
        return r ? r->node : NULL;
}

unsigned records_n_damaged(const Records *records) {
        return records->n_damaged;
}

static int set_aside(int dfd, const char *name, unsigned char type, void *userdata) {
        _cleanup_(tree_freep) Tree *t = NULL;
        char aside[NAME_MAX + 1];
        int r;

        if (type != DT_REG || name[0] == '.')
                return 0;
        r = manifest_read(dfd, name, &t);
        if (r != -EBADMSG && r != -EIO)
                return 0;
        (void) snprintf(aside, sizeof(aside), ".damaged-%.200s", name);
        return renameat(dfd, name, dfd, aside) < 0 ? -errno : 0;
}

int records_set_damaged_aside(int dfd) {
        return dir_foreach(dfd, set_aside, NULL);
}

int records_foreach(const Records *records, int (*func)(const Tree *t, void *userdata), void *userdata) {
        for (size_t i = 0; i < records->n_items; i++) {
                int r = func(records->items[i], userdata);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Stops the walk with 1 at the first directory that still exists. */
static int find_living(Node *n, void *userdata) {
        const int *upper_fd = userdata;
        int fd;

        if (!n->new_handle)
                return 0;
        fd = file_handle_open(*upper_fd, n->new_handle, NULL);
        if (fd >= 0)
                (void) close(fd);
        /* Anything but a clear "gone" leaves the record alone. */
        return fd == -ESTALE || fd == -ENOENT ? 0 : -EEXIST;
}

/* Another upper where this one was yesterday, a wrong disk or a restored one, says nothing about the
 * directories of this record: it may be mounted again. */
static bool is_dead(Tree *t, int upper_fd) {
        return tree_foreach(t, find_living, &upper_fd) == 0;
}

static int remove_unfinished(int dfd, const char *name, unsigned char type, void *userdata) {
        return type == DT_REG ? file_remove_unfinished(dfd, name) : 0;
}

int records_prune(const Records *records, int dfd, int upper_fd) {
        bool is_synced = false;
        int r = 0;

        for (size_t i = 0; r >= 0 && i < records->n_items; i++) {
                Tree *t = records->items[i];

                if (!is_dead(t, upper_fd))
                        continue;
                /* After a power loss the upper may be what it was before the directories went: only then the
                 * record may go, too. */
                if (!is_synced && syncfs(upper_fd) < 0)
                        return -errno;
                is_synced = true;
                if (unlinkat(dfd, t->id, 0) < 0 && errno != ENOENT)
                        r = -errno;
        }
        return r < 0 ? r : dir_foreach(dfd, remove_unfinished, NULL);
}

char *records_default_name(const char *upper) {
        char *name;

        /* No name of a configured overlay has a "=" in it. */
        return asprintf(&name, "=%016llx", (unsigned long long) hash_bytes(upper, strlen(upper))) < 0 ? NULL
                                                                                                      : name;
}
