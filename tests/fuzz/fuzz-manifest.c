/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Records and snapshots of any bytes: refused as damaged, or a tree that is written and read as the same;
 * cut short anywhere it is refused. Input: how, then the file; with "how" even, each "Z" stands for the
 * checksum that belongs there, and one more is added at the end. */
#include <string.h>

#include "base/fs-util.h"
#include "core/record/manifest.h"
#include "fuzz.h"

static int check_node(Node *n, void *userdata) {
        _cleanup_free_ char *path = node_path(n);
        uint64_t *n_entries = userdata;

        HOLDS(path && n->tree);
        HOLDS(n->old_inode == 0 || tree_find_old(n->tree, n->old_inode) == n);
        ENTRY_FOREACH (n, e) {
                HOLDS(node_find(n, e->name) == e && e->name[0] && !strchr(e->name, '/') &&
                      strlen(e->name) <= NAME_MAX);
                HOLDS((e->type == DT_DIR) == (e->dir != NULL));
                HOLDS(!e->dir || (e->dir->entry == e && e->dir->parent == n));
                ++*n_entries;
        }
        return 0;
}

static char *written(Tree *t, int dfd, size_t *ret_size) {
        char *text;

        HOLDS(manifest_write(t, dfd, "out") == 0);
        HOLDS(file_read(dfd, "out", MANIFEST_SIZE_MAX, &text, ret_size) == 0);
        return text;
}

static void check_cut(int dfd, const char *text, size_t size, size_t at) {
        Tree *t = NULL;

        fuzz_write("cut", text, at % size);
        HOLDS(manifest_read(dfd, "cut", &t) == -EBADMSG && !t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(tree_freep) Tree *t = NULL, *again = NULL;
        _cleanup_free_ char *text = NULL, *first = NULL, *second = NULL;
        size_t text_size, first_size, second_size;
        Input in = input_begin(data, size);
        uint64_t n_entries = 0, n_again = 0;
        uint8_t how = input_byte(&in);
        int dfd = fuzz_dir(), r;

        text = how & 1 ? input_rest(&in, &text_size) : input_record(&in, &text_size);
        fuzz_write("in", text, text_size);
        r = manifest_read(dfd, "in", &t);
        HOLDS(r == 0 ? t != NULL : r == -EBADMSG && !t);
        if (r < 0)
                return 0;
        HOLDS(tree_foreach(t, check_node, &n_entries) == 0);
        first = written(t, dfd, &first_size);
        HOLDS(manifest_read(dfd, "out", &again) == 0 && manifest_is_same(again, dfd, "out"));
        HOLDS(tree_foreach(again, check_node, &n_again) == 0 && n_again == n_entries);
        second = written(again, dfd, &second_size);
        HOLDS(first_size == second_size && memcmp(first, second, first_size) == 0);
        check_cut(dfd, first, first_size, how * 7919);
        check_cut(dfd, first, first_size, first_size - 1);
        return 0;
}
