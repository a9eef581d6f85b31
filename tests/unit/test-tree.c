/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <string.h>

#include "core/record/tree.h"

static int tree_setup(void **state) {
        return tree_new("soft/prog", "0123456789abcdef", /* is_undo= */ false, (Tree **) state);
}

static int tree_teardown(void **state) {
        (void) tree_free(*state);
        return 0;
}

static Entry *add(Node *n, const char *name, unsigned char type) {
        Entry *e = NULL;

        assert_return_code(node_add(n, name, type, &e), 0);
        return e;
}

static Node *add_directory(Node *n, const char *name) {
        return add(n, name, DT_DIR)->dir;
}

static void assert_path(const Node *n, const char *expected) {
        _cleanup_free_ char *path = node_path(n);

        if (!expected) {
                assert_null(path);
                return;
        }
        assert_non_null(path);
        assert_string_equal(path, expected);
}

static void test_entries(void **state) {
        Tree *t = *state;
        Entry *e = add(t->root, "file", DT_REG);
        Node *d = add_directory(t->root, "dir");

        assert_ptr_equal(node_find(t->root, "file"), e);
        assert_null(node_find(t->root, "fil"));
        assert_int_equal(node_add(t->root, "file", DT_REG, NULL), -EEXIST);
        assert_null(e->dir);
        assert_false(e->is_local);
        assert_ptr_equal(d->parent, t->root);
        assert_ptr_equal(d->entry, node_find(t->root, "dir"));
        assert_int_equal(t->n_nodes, 2);
}

/* A name that the lower has stays in mind when it is gone, so that an undo does not show it again. */
static void test_drop(void **state) {
        Tree *t = *state;
        Entry *of_lower = add(t->root, "lower", DT_DIR), *local = add(t->root, "local", DT_REG);

        local->is_local = true;
        (void) add_directory(add_directory(of_lower->dir, "a"), "b");
        assert_int_equal(t->n_nodes, 4);
        of_lower->inode = of_lower->base = of_lower->xattrs = of_lower->ctime = of_lower->identity = 7;
        of_lower->aside = 7;
        of_lower->is_placed = of_lower->is_seen = of_lower->is_gone = true;
        entry_drop(t->root, of_lower);
        entry_drop(t->root, local);
        assert_null(node_find(t->root, "local"));
        assert_ptr_equal(node_find(t->root, "lower"), of_lower);
        assert_int_equal(of_lower->type, DT_WHT);
        assert_null(of_lower->dir);
        assert_false(of_lower->is_placed || of_lower->is_seen || of_lower->is_gone);
        assert_true((of_lower->inode | of_lower->base | of_lower->xattrs | of_lower->ctime) == 0);
        assert_true((of_lower->identity | of_lower->aside) == 0);
        assert_int_equal(t->n_nodes, 1); /* with all below it */
        entry_forget(t->root, of_lower); /* nor has the lower it any more */
        assert_null(node_find(t->root, "lower"));
}

/* What comes late is local, unless it takes the place of a lower name. */
static void test_add_late(void **state) {
        Tree *t = *state;
        Entry *placed = add(t->root, "placed", DT_REG), *unplaced = add(t->root, "unplaced", DT_UNKNOWN), *e;

        add(t->root, "deleted", DT_WHT);
        placed->is_placed = true;
        assert_return_code(node_add_late(t->root, "new", DT_REG, &e), 0);
        assert_true(e->is_local);
        assert_return_code(node_add_late(t->root, "deleted", DT_DIR, &e), 0);
        assert_false(e->is_local);
        assert_int_equal(e->type, DT_DIR);
        assert_non_null(e->dir);
        assert_return_code(node_add_late(t->root, "unplaced", DT_REG, &e), 0);
        assert_ptr_equal(e, unplaced);
        assert_int_equal(e->type, DT_REG);
        assert_int_equal(node_add_late(t->root, "placed", DT_REG, &e), -EEXIST);
        assert_int_equal(node_add_late(t->root, "deleted", DT_REG, &e), -EEXIST); /* a directory by now */
}

static void test_paths(void **state) {
        Tree *t = *state;
        Node *a = add_directory(t->root, "a"), *b = add_directory(a, "b\n"), *c = add_directory(b, "..c");

        assert_path(t->root, "");
        assert_path(a, "a");
        assert_path(c, "a/b\n/..c");
        node_detach(b);
        assert_path(b, NULL);
        assert_return_code(node_attach(b, t->root, "moved"), 0);
        assert_path(c, "moved/..c");
}

static void test_identity(void **state) {
        Tree *t = *state;
        Node *a = add_directory(t->root, "a"), *b = add_directory(a, "b");

        assert_ptr_equal(node_find_identity(b), t->root); /* there is none */
        a->lower_identity = strdup("1,2,;");
        assert_ptr_equal(node_find_identity(b), a);
        assert_ptr_equal(node_find_identity(a), a);
        assert_ptr_equal(node_find_identity(t->root), t->root);
}

/* Parents before children, whichever was noted first, each once. */
static void test_dirty_order(void **state) {
        Tree *t = *state;
        Node *a = add_directory(t->root, "a"), *b = add_directory(a, "b"), *c = add_directory(t->root, "c");

        assert_null(tree_next_dirty(t));
        node_note_change(b, "x");
        node_recheck(c);
        node_recheck(a);
        node_note_change(t->root, "y");
        node_note_change(b, "z");
        node_recheck(a);
        assert_ptr_equal(tree_next_dirty(t), t->root);
        assert_ptr_equal(tree_next_dirty(t), c);
        assert_ptr_equal(tree_next_dirty(t), a);
        assert_ptr_equal(tree_next_dirty(t), b);
        assert_null(tree_next_dirty(t));
        assert_int_equal(b->changes.n, 2);
        assert_true(a->changes.all);
}

/* After an overflow of the queue of events. If the tree were gone through for each of them, it would not end
 * within the time that a test has. */
static void test_many_dirty(void **state) {
        enum { N_MANY = 300000 };
        Tree *t = *state;
        size_t n = 0;

        for (unsigned i = 0; i < N_MANY; i++) {
                char name[16];

                (void) snprintf(name, sizeof(name), "d%u", i);
                node_recheck(add_directory(t->root, name));
        }
        for (Node *d; (d = tree_next_dirty(t)); n++)
                assert_ptr_equal(d->parent, t->root);
        assert_int_equal(n, N_MANY);
}

/* Deeper than the list of levels was at first. */
static void test_dirty_deep(void **state) {
        Tree *t = *state;
        Node *n = t->root, *deep[100];

        for (size_t i = 0; i < ELEMENTSOF(deep); i++)
                n = deep[i] = add_directory(n, "d");
        for (size_t i = ELEMENTSOF(deep); i-- > 0;)
                node_recheck(deep[i]);
        for (size_t i = 0; i < ELEMENTSOF(deep); i++)
                assert_ptr_equal(tree_next_dirty(t), deep[i]);
        assert_null(tree_next_dirty(t));
}

/* What was noted of a directory that is out of the tree for a moment is compared where it comes back. */
static void test_dirty_detached(void **state) {
        Tree *t = *state;
        Node *a = add_directory(t->root, "a"), *below = add_directory(a, "below"),
             *deep = add_directory(add_directory(add_directory(t->root, "1"), "2"), "3");

        node_detach(a);
        node_recheck(below);
        node_note_change(a, "x");
        assert_null(tree_next_dirty(t));
        assert_return_code(node_attach(a, deep, "a"), 0);
        node_recheck(deep);
        assert_ptr_equal(tree_next_dirty(t), deep);
        assert_ptr_equal(tree_next_dirty(t), a);
        assert_ptr_equal(tree_next_dirty(t), below);
        assert_null(tree_next_dirty(t));
}

static void test_changes(void **state) {
        Tree *t = *state;
        Entry *e = add(t->root, "x", DT_REG);
        Changes c;

        e->n_tries = 3;
        node_note_change(t->root, "x");
        node_note_change(t->root, "x");
        assert_int_equal(t->root->changes.n, 1);
        assert_int_equal(e->n_tries, 0);
        c = node_take_changes(t->root);
        assert_int_equal(c.n, 1);
        assert_string_equal(c.names[0], "x");
        assert_false(node_has_changes(t->root)); /* what is noted now is the next comparison's */
        node_note_change(t->root, "x");
        assert_int_equal(t->root->changes.n, 1);
        changes_done(&c);
        assert_int_equal(c.n, 0);
}

/* From some number of names on the whole directory is compared, and no more names are kept. */
static void test_many_changes(void **state) {
        Tree *t = *state;
        char name[16];
        unsigned i;

        for (i = 0; i < 1000 && !t->root->changes.all; i++) {
                (void) snprintf(name, sizeof(name), "%u", i);
                node_note_change(t->root, name);
        }
        assert_in_range(i, 2, 100);
        node_note_change(t->root, "another");
        assert_true(t->root->changes.n < i);
        assert_ptr_equal(tree_next_dirty(t), t->root);
        assert_null(tree_next_dirty(t));
}

static void test_gone(void **state) {
        Tree *t = *state;
        Node *a = add_directory(t->root, "a"), *b = add_directory(t->root, "b");
        Entry *x = add(a, "x", DT_REG), *y = add(a, "y", DT_REG), *z = add(b, "z", DT_REG);

        node_note_gone(a, x);
        node_note_gone(b, z);
        node_note_gone(a, y);
        assert_true(x->is_gone && y->is_gone && z->is_gone);
        assert_ptr_equal(tree_next_gone(t), a);
        node_note_gone(a, x); /* once more, while it is dealt with */
        assert_ptr_equal(tree_next_gone(t), b);
        entry_forget(t->root, a->entry); /* with its place in the list */
        assert_null(tree_next_gone(t));
}

/* The kernel gives one watch an inode, and inode numbers are used again: who has it now is the one. */
static void test_maps(void **state) {
        Tree *t = *state;
        Node *a = add_directory(t->root, "a"), *b = add_directory(t->root, "b");

        node_set_watch(a, 1);
        node_set_old_inode(a, 100);
        assert_ptr_equal(tree_find_watch(t, 1), a);
        assert_ptr_equal(tree_find_old(t, 100), a);
        node_set_watch(b, 1);
        node_set_old_inode(b, 100);
        assert_ptr_equal(tree_find_watch(t, 1), b);
        assert_ptr_equal(tree_find_old(t, 100), b);
        assert_int_equal(a->watch, -1);
        assert_int_equal(a->old_inode, 0);
        node_set_watch(b, 2);
        assert_null(tree_find_watch(t, 1));
        assert_ptr_equal(tree_find_watch(t, 2), b);
        entry_drop(t->root, b->entry);
        assert_null(tree_find_watch(t, 2));
        assert_null(tree_find_old(t, 100));
        assert_null(tree_find_old(t, 0));
}

/* A directory that is moved: it leaves a deleted lower name, is found by inode meanwhile, and takes its
 * place with what is below it. */
static void test_move(void **state) {
        Tree *t = *state;
        Node *a = add_directory(t->root, "a"), *below = add_directory(a, "below"),
             *to = add_directory(t->root, "to");
        Entry *taken = add(to, "taken", DT_REG);

        taken->is_placed = true;
        node_set_old_inode(a, 100);
        node_detach(a);
        assert_int_equal(node_find(t->root, "a")->type, DT_WHT);
        assert_ptr_equal(tree_find_old(t, 100), a);
        assert_int_equal(node_attach(a, to, "taken"), -EEXIST);
        assert_return_code(node_attach(a, to, "new"), 0);
        assert_path(below, "to/new/below");
        assert_int_equal(a->entry->inode, 100);
        assert_true(a->entry->is_placed);
        assert_true(a->entry->is_local);
        assert_return_code(node_attach(a, t->root, "a"), 0); /* and back, without having been out */
        assert_false(a->entry->is_local);
        assert_null(node_find(to, "new"));
        assert_int_equal(t->n_nodes, 4);
        node_detach(a);
        tree_drop_detached(t, a);
        assert_null(tree_find_old(t, 100));
        assert_int_equal(t->n_nodes, 2);
}

static void test_deferred(void **state) {
        Tree *t = *state;
        Node *a = add_directory(t->root, "a");

        t->root->is_attributes_dirty = a->is_attributes_dirty = false;
        assert_false(tree_resume_deferred(t));
        a->is_deferred = true;
        assert_true(tree_resume_deferred(t));
        assert_false(a->is_deferred);
        assert_ptr_equal(tree_next_dirty(t), a);
        changes_done(&a->changes);
        assert_false(tree_resume_deferred(t));
        a->is_times_dirty = true;
        assert_true(tree_resume_deferred(t));
        assert_null(tree_next_dirty(t));
}

static void test_known(void **state) {
        Tree *t = *state;

        assert_false(tree_is_known(t, "aa"));
        assert_return_code(tree_note_known(t, "aa"), 0);
        assert_return_code(tree_note_known(t, "aa"), 0);
        assert_true(tree_is_known(t, "aa"));
        assert_false(tree_is_known(t, "a"));
}

static int stop_at_b(Node *n, void *userdata) {
        ++*(unsigned *) userdata;
        return n->entry && strcmp(n->entry->name, "b") == 0 ? -ECANCELED : 0;
}

static void test_walk(void **state) {
        Tree *t = *state;
        Node *a = add_directory(t->root, "a"), *b = add_directory(a, "b"),
             *out = add_directory(t->root, "out");
        _cleanup_free_ Node **nodes = NULL;
        unsigned n_visited = 0;
        size_t n;

        (void) add_directory(b, "c");
        (void) add_directory(out, "below");
        add(b, "file", DT_REG);
        node_detach(out);
        assert_return_code(tree_list(t, &nodes, &n), 0);
        assert_int_equal(n, 4); /* not what is detached */
        for (size_t i = 0; i < n; i++)
                for (size_t k = 0; k < i; k++)
                        assert_ptr_not_equal(nodes[k]->parent, nodes[i]);
        assert_int_equal(tree_foreach(t, stop_at_b, &n_visited), -ECANCELED);
        assert_int_equal(n_visited, 3);
}

#define tree_test(f) cmocka_unit_test_setup_teardown(f, tree_setup, tree_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                tree_test(test_entries),      tree_test(test_drop),           tree_test(test_add_late),
                tree_test(test_paths),        tree_test(test_identity),       tree_test(test_dirty_order),
                tree_test(test_dirty_deep),   tree_test(test_dirty_detached), tree_test(test_changes),
                tree_test(test_many_changes), tree_test(test_gone),           tree_test(test_maps),
                tree_test(test_move),         tree_test(test_deferred),       tree_test(test_known),
                tree_test(test_walk),         tree_test(test_many_dirty),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
