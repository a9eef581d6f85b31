/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A tree is changed at random, and its file follows by what is appended: read anew it is always the same
 * tree, and cut in the last part it is what it was before. Input: pairs of what to do and to which entry. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs-util.h"
#include "core/record/manifest.h"
#include "fuzz.h"

#define STEPS_MAX 60

static int compare(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

typedef struct Lines {
        char **items;
        size_t n;
} Lines;

/* What a record says of a directory, in any order. */
static int add_lines(Node *n, void *userdata) {
        _cleanup_free_ char *path = node_path(n);
        Lines *l = userdata;

        HOLDS(ARRAY_GROW(l->items, l->n));
        HOLDS(asprintf(
                      &l->items[l->n++], "%s/ %" PRIu64 " %" PRIu64 " %" PRIx64 " %s %s %s %s", path,
                      n->old_inode, n->new_inode, n->base, n->old_handle ?: "", n->new_handle ?: "",
                      n->lower ?: "(none)", n->lower_identity ?: "") > 0);
        ENTRY_FOREACH (n, e) {
                HOLDS(ARRAY_GROW(l->items, l->n));
                HOLDS(asprintf(
                              &l->items[l->n++],
                              "%s/%s %u %d %d %" PRIu64 " %" PRIx64 " %" PRIx64 " %" PRIx64, path, e->name,
                              e->type, e->is_local, e->is_placed, e->inode, e->identity, e->base,
                              e->ctime) > 0);
        }
        return 0;
}

static char *describe(Tree *t) {
        size_t size;
        char *text = NULL;
        FILE *f = open_memstream(&text, &size);
        Lines l = { 0 };

        HOLDS(f && tree_foreach(t, add_lines, &l) == 0);
        qsort(l.items, l.n, sizeof(char *), compare);
        for (size_t i = 0; i < l.n; i++) {
                (void) fprintf(f, "%s\n", l.items[i]);
                free(l.items[i]);
        }
        free(l.items);
        (void) fclose(f);
        return text;
}

/* The directory that a byte leads to, from the root: two bits a step, as far as there are directories. */
static Node *pick(Tree *t, uint8_t where) {
        Node *n = t->root;

        for (unsigned i = 0; i < 3; i++, where >>= 2) {
                char name[2] = { (char) ('a' + (where & 3)), '\0' };
                Entry *e = node_find(n, name);

                if (!e || !e->dir)
                        break;
                n = e->dir;
        }
        return n;
}

static void set_numbers(Node *n, Entry *e, uint8_t value) {
        static const char *const texts[] = { NULL, "0102", "0304", "x" };

        if (e) {
                e->is_local = value & 1;
                e->is_placed = value & 2;
                e->inode = value;
                e->identity = value * 3u;
                e->base = value & 4 ? UINT64_MAX : value;
                e->ctime = value * 5u;
                return;
        }
        n->base = value;
        free(n->new_handle);
        n->new_handle = texts[value & 3] ? strdup(texts[value & 3]) : NULL;
        free(n->lower_identity);
        n->lower_identity = texts[value >> 2 & 3] ? strdup(texts[value >> 2 & 3]) : NULL;
        free(n->lower);
        n->lower = value & 16 ? strdup(value & 32 ? "" : "a/b") : NULL;
}

/* 1: n, or what stands below it, has changed. */
static void change(Tree *t, Node *n, uint8_t what, uint8_t which) {
        char name[2] = { (char) ('a' + (which & 7)), '\0' };
        Entry *e = node_find(n, name);

        switch (what & 7) {
        case 0:
        case 1:
                if (!e)
                        (void) node_add(n, name, what & 1 ? DT_DIR : DT_REG, &e);
                break;
        case 2:
                if (e)
                        entry_drop(n, e);
                break;
        case 3:
                if (e)
                        entry_forget(n, e);
                break;
        case 4:
                (void) node_add_late(n, name, which & 8 ? DT_DIR : DT_LNK, &e);
                break;
        case 5:
                set_numbers(n, e, which);
                break;
        case 6:
                set_numbers(n, NULL, which);
                break;
        default:
                if (e && e->dir) {
                        Node *moved = e->dir;

                        node_detach(moved);
                        if (node_attach(moved, t->root, which & 8 ? "x" : "y") < 0)
                                tree_drop_detached(t, moved);
                }
        }
}

static void check_file(Tree *t, int dfd, const char *name) {
        _cleanup_(tree_freep) Tree *found = NULL;
        _cleanup_free_ char *a = describe(t), *b = NULL;

        HOLDS(manifest_read(dfd, name, &found) == 0);
        b = describe(found);
        if (strcmp(a, b) != 0)
                (void) fprintf(stderr, "in memory:\n%sin the file:\n%s", a, b);
        HOLDS(strcmp(a, b) == 0);
}

/* What was appended last, without its end. */
static void check_cut(int dfd, const char *before, uint8_t cut) {
        _cleanup_(tree_freep) Tree *found = NULL;
        _cleanup_free_ char *text = NULL, *after = NULL;
        size_t size;

        HOLDS(file_read(dfd, "record", MANIFEST_SIZE_MAX, &text, &size) == 0);
        fuzz_write("cut", text, size - 1 - cut % 8);
        HOLDS(manifest_read(dfd, "cut", &found) == 0);
        after = describe(found);
        HOLDS(strcmp(before, after) == 0);
}

static void update(Tree *t, int dfd, uint8_t cut, char **known) {
        size_t before = t->file.size, whole = t->file.whole;

        HOLDS(manifest_update(t->root, dfd, "record", false) == 0);
        HOLDS(manifest_is_same(t, dfd, "record"));
        check_file(t, dfd, "record");
        if (*known && t->file.size > before && t->file.whole == whole && before > 0)
                check_cut(dfd, *known, cut);
        free(*known);
        *known = describe(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(tree_freep) Tree *t = NULL;
        _cleanup_free_ char *known = NULL;
        Input in = input_begin(data, size);
        int dfd = fuzz_dir();

        HOLDS(tree_new("top", "0123456789abcdef", false, &t) == 0);
        t->upper = strdup("00");
        for (unsigned i = 0; i < STEPS_MAX && !input_is_empty(&in); i++) {
                uint8_t what = input_byte(&in), which = input_byte(&in);

                change(t, pick(t, input_byte(&in)), what, which);
                if (what & 0x80)
                        update(t, dfd, which, &known);
                if ((what & 0xc0) == 0xc0) { /* as another worker: from the file */
                        t = tree_free(t);
                        HOLDS(manifest_read(dfd, "record", &t) == 0);
                }
        }
        update(t, dfd, 0, &known);
        return 0;
}
