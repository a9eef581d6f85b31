/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "base/hash.h"
#include "core/record/manifest.h"
#include "core/record/record-edit.h"
#include "unit.h"

/* In place of the C library's: these tests are about what is written, and say when it is to be durable. */
static unsigned n_syncs;

int fdatasync(int fd) {
        n_syncs++;
        return 0;
}

int fsync(int fd) {
        return 0;
}

#define HEADER(version)                                                                                     \
        "ovlfind-manifest " version "\0id=0123456789abcdef\0path=soft/prog\0undo=0\0usec=1600000000\0"      \
        "upper=feed\0"
#define ROOT                                                                                                \
        "D\0"                                                                                               \
        "11 22\0"                                                                                           \
        "aa\0"                                                                                              \
        "bb\0"                                                                                              \
        "/lower/prog\0"

static void write_record(int dfd, const char *body, size_t size) {
        _cleanup_free_ char *data = malloc(size + 32);
        int n;

        assert_non_null(data);
        memcpy(data, body, size);
        n = snprintf(data + size, 32, "Z%llx", (unsigned long long) hash_bytes(body, size));
        assert_return_code(file_write_atomic(dfd, "record", data, size + (size_t) n + 1), 0);
}

static int read_record(const char *body, size_t size, Tree **ret) {
        Path path = at("records");
        _cleanup_close_ int dfd = mkdir_open(path.s);

        assert_return_code(dfd, 0);
        write_record(dfd, body, size);
        return manifest_read(dfd, "record", ret);
}

/* Without digests and without the identity of the lower layers: what the first version wrote. */
static void test_format_1(void **state) {
        static const char body[] = HEADER("1") ROOT "E8 0 1 100 abc libx.so.1\0"
                                                    "E4 0 1 101 0 sub\0"
                                                    "E14 0 0 0 0 with space\0"
                                                    "Dsub\0"
                                                    "12 23\0"
                                                    "\0"
                                                    "cc\0"
                                                    "/lower/prog/sub\0"
                                                    "E10 1 1 102 def link";
        _cleanup_(tree_freep) Tree *t = NULL;
        const Entry *e;

        assert_int_equal(read_record(body, sizeof(body), &t), 0);
        assert_string_equal(t->id, "0123456789abcdef");
        assert_string_equal(t->path, "soft/prog");
        assert_string_equal(t->upper, "feed");
        assert_null(t->root->lower_identity);
        assert_int_equal(t->root->base, 0);
        assert_int_equal(t->usec, 1600000000);
        assert_string_equal(t->root->lower, "lower/prog");
        assert_string_equal(t->root->new_handle, "bb");
        e = node_find(t->root, "libx.so.1");
        assert_non_null(e);
        assert_int_equal(e->inode, 100);
        assert_int_equal(e->identity, 0xabc);
        assert_int_equal(e->base, 0);
        assert_int_equal(e->xattrs, 0);
        assert_true(e->ctime == CTIME_OF_OLD_RECORD);
        assert_int_equal(node_find(t->root, "with space")->type, DT_WHT);
        e = node_find(node_find(t->root, "sub")->dir, "link");
        assert_true(e->is_local);
        assert_int_equal(e->identity, 0xdef);
}

static void test_format_2(void **state) {
        static const char body[] = HEADER("2") "lower=1,2,;\0" ROOT "E8 0 1 100 abc d1 d2 libx.so.1";
        _cleanup_(tree_freep) Tree *t = NULL;
        const Entry *e;

        assert_int_equal(read_record(body, sizeof(body), &t), 0);
        assert_string_equal(t->root->lower_identity, "1,2,;");
        e = node_find(t->root, "libx.so.1");
        assert_int_equal(e->base, 0xd1);
        assert_int_equal(e->xattrs, 0); /* another digest than that of today */
        assert_true(e->ctime == CTIME_OF_OLD_RECORD);
}

/* That there were no xattrs is known from then, too. */
static void test_format_3(void **state) {
        static const char body[] = HEADER("3") "D\0"
                                               "0 0 0\0\0\0\0"
                                               "E8 0 1 100 abc d1 d2 d3 some\0"
                                               "E8 0 1 100 abc d1 1 d3 none";
        _cleanup_(tree_freep) Tree *t = NULL;

        assert_int_equal(read_record(body, sizeof(body), &t), 0);
        assert_int_equal(node_find(t->root, "some")->xattrs, 0);
        assert_int_equal(node_find(t->root, "some")->ctime, 0xd3);
        assert_int_equal(node_find(t->root, "none")->xattrs, 1);
}

/* What is written is read, in the format of today: directories with what the lower showed, each with the
 * identity of its own. */
static void test_format_4(void **state) {
        static const char body[] = HEADER("4") "D\0"
                                               "0 0 0\0\0\0\0"
                                               "E4 0 0 0 0 0 0 0 prog\0"
                                               "Dprog\0"
                                               "11 22 b1\0"
                                               "aa\0"
                                               "bb\0"
                                               "/lower/prog\0"
                                               "I1,2,;\0"
                                               "E8 0 1 100 abc d1 d2 d3 libx.so.1";
        Path path = at("records");
        _cleanup_(tree_freep) Tree *t = NULL, *again = NULL;
        _cleanup_close_ int dfd = -EBADF;
        const Node *n;
        const Entry *e;

        assert_int_equal(read_record(body, sizeof(body), &t), 0);
        dfd = open(path.s, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_return_code(manifest_write(t, dfd, "again"), 0);
        assert_return_code(manifest_read(dfd, "again", &again), 0);
        assert_null(again->root->lower_identity);
        n = node_find(again->root, "prog")->dir;
        assert_string_equal(n->lower_identity, "1,2,;");
        assert_int_equal(n->base, 0xb1);
        e = node_find(n, "libx.so.1");
        assert_int_equal(e->xattrs, 0xd2);
        assert_int_equal(e->ctime, 0xd3);
}

/* Of a version to come, of none, or mixed. */
static void test_refused(void **state) {
        static const char later[] = HEADER("6") ROOT, none[] = HEADER("0") ROOT, mixed[] = HEADER("2") ROOT,
                          slash[] = HEADER("1") ROOT "E8 0 1 100 abc a/b",
                          short_entry[] = HEADER("2") "lower=\0" ROOT "E8 0 1 100 abc",
                          short_node[] = HEADER("3") ROOT, stray[] = HEADER("3") "I1,2,;";
        Tree *t = NULL;

        assert_int_equal(read_record(later, sizeof(later) - 1, &t), -EBADMSG);
        assert_int_equal(read_record(none, sizeof(none) - 1, &t), -EBADMSG);
        assert_int_equal(read_record(mixed, sizeof(mixed) - 1, &t), -EBADMSG);
        assert_int_equal(read_record(slash, sizeof(slash), &t), -EBADMSG);
        assert_int_equal(read_record(short_entry, sizeof(short_entry), &t), -EBADMSG);
        assert_int_equal(read_record(short_node, sizeof(short_node) - 1, &t), -EBADMSG);
        assert_int_equal(read_record(stray, sizeof(stray), &t), -EBADMSG);
}

static void put_line(FILE *f, const Node *n, const Entry *e) {
        _cleanup_free_ char *path = node_path(n);

        if (!e)
                (void) fprintf(
                        f, "%s %llu %llu %llx %s %s %s %s\n", path, (unsigned long long) n->old_inode,
                        (unsigned long long) n->new_inode, (unsigned long long) n->base, n->old_handle ?: "",
                        n->new_handle ?: "", n->lower ?: "(none)", n->lower_identity ?: "");
        else
                (void) fprintf(
                        f, "%s/%s %u %d %d %llu %llx %llx %llx %llx\n", path, e->name, e->type, e->is_local,
                        e->is_placed, (unsigned long long) e->inode, (unsigned long long) e->identity,
                        (unsigned long long) e->base, (unsigned long long) e->xattrs,
                        (unsigned long long) e->ctime);
}

static int by_text(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

/* All that a manifest says, in an order that does not depend on how it came about. */
static char *text_of(Tree *t) {
        char *lines = NULL, *text = NULL, **items = NULL, *at = NULL;
        size_t size = 0, n_nodes, n = 0;
        FILE *f = open_memstream(&lines, &size);
        Node **nodes = NULL;
        Entry *e, *next;

        assert_non_null(f);
        assert_return_code(tree_list(t, &nodes, &n_nodes), 0);
        for (size_t i = 0; i < n_nodes; i++) {
                put_line(f, nodes[i], NULL);
                HASH_ITER(hh, nodes[i]->entries, e, next) {
                        put_line(f, nodes[i], e);
                }
        }
        assert_int_equal(fclose(f), 0);
        for (char *line = strtok_r(lines, "\n", &at); line; line = strtok_r(NULL, "\n", &at)) {
                items = reallocarray(items, n + 1, sizeof(char *));
                assert_non_null(items);
                items[n++] = line;
        }
        qsort(items, n, sizeof(char *), by_text);
        f = open_memstream(&text, &size);
        assert_non_null(f);
        for (size_t i = 0; i < n; i++)
                (void) fprintf(f, "%s\n", items[i]);
        assert_int_equal(fclose(f), 0);
        free(items);
        free(nodes);
        free(lines);
        return text;
}

static void assert_reads(int dfd, const char *name, const char *expected) {
        _cleanup_(tree_freep) Tree *t = NULL;
        _cleanup_free_ char *text = NULL;

        assert_return_code(manifest_read(dfd, name, &t), 0);
        text = text_of(t);
        assert_string_equal(text, expected);
}

static size_t size_of(int dfd, const char *name) {
        struct stat st;

        assert_return_code(fstatat(dfd, name, &st, 0), 0);
        return (size_t) st.st_size;
}

static Entry *add(Node *n, const char *name, unsigned char type) {
        Entry *e = NULL;

        assert_return_code(node_add(n, name, type, &e), 0);
        return e;
}

static Node *make_node(Node *parent, const char *name, uint64_t number) {
        Node *n = add(parent, name, DT_DIR)->dir;

        node_set_old_inode(n, number);
        n->new_inode = number + 1;
        n->is_attributes_dirty = false;
        n->lower = strdup(name);
        assert_true(asprintf(&n->old_handle, "81%012llx", (unsigned long long) number) > 0);
        assert_true(asprintf(&n->new_handle, "82%012llx", (unsigned long long) number) > 0);
        return n;
}

static Tree *make_tree(void) {
        Tree *t = NULL;

        assert_return_code(tree_new("soft", "0123456789abcdef", /* is_undo= */ false, &t), 0);
        t->upper = strdup("feed");
        t->root->new_handle = strdup("82");
        return t;
}

static int open_records(void) {
        Path path = at("records");
        int dfd = mkdir_open(path.s);

        assert_return_code(dfd, 0);
        return dfd;
}

/* Files and directories that come, change, go and become each other. */
static void change(Tree *t, unsigned step) {
        Node *lib = node_find(t->root, "lib")->dir;

        switch (step) {
        case 0:
                node_find(lib, "a")->base = 7;
                entry_forget(lib, node_find(lib, "b"));
                add(lib, "with\nline", DT_LNK)->ctime = 8;
                break;
        case 1:
                entry_drop(lib, node_find(lib, "sub"));
                add(make_node(t->root, "new", 30), "inside", DT_REG)->inode = 9;
                lib->base = 5;
                break;
        default:
                entry_forget(t->root, node_find(t->root, "new"));
                add(t->root, "new", DT_REG);
                entry_forget(lib, node_find(lib, "a"));
                lib->lower_identity = strdup("1,2,;");
        }
}

#define N_STEPS 3

/* A tree of which all changes were appended; the size of the file and what it said after each of them. */
typedef struct Steps {
        Tree *tree;
        size_t sizes[N_STEPS + 1];
        char *texts[N_STEPS + 1];
        char *data; /* all that is in the file */
        size_t size;
} Steps;

static void steps_done(Steps *s) {
        tree_freep(&s->tree);
        for (unsigned i = 0; i <= N_STEPS; i++)
                free(s->texts[i]);
        free(s->data);
}

static void write_steps(int dfd, Steps *ret) {
        Tree *t = make_tree();
        Node *lib = make_node(t->root, "lib", 10);

        add(lib, "a", DT_REG)->inode = 1;
        add(lib, "b", DT_REG)->inode = 2;
        add(make_node(lib, "sub", 20), "deep", DT_REG)->inode = 3;
        for (unsigned i = 0; i <= N_STEPS; i++) {
                if (i > 0)
                        change(t, i - 1);
                assert_return_code(manifest_update(t->root, dfd, "record", /* sync= */ false), 0);
                ret->sizes[i] = size_of(dfd, "record");
                ret->texts[i] = text_of(t);
                assert_true(i == 0 || ret->sizes[i] > ret->sizes[i - 1]);
                assert_reads(dfd, "record", ret->texts[i]);
        }
        ret->tree = t;
        assert_return_code(file_read(dfd, "record", SIZE_MAX, &ret->data, &ret->size), 0);
}

static void write_part(int dfd, const char *name, const char *data, size_t size) {
        _cleanup_close_ int fd = -EBADF;

        (void) unlinkat(dfd, name, 0);
        fd = openat(dfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        assert_return_code(fd, 0);
        assert_return_code(fd_write_all(fd, data, size), 0);
}

/* After a kill or a lost machine it says what it said before or after each change, wherever the file ends;
 * so it does with anything else in place of what was lost. */
static void test_cut_short(void **state) {
        _cleanup_close_ int dfd = open_records();
        _cleanup_(steps_done) Steps s = { 0 };

        write_steps(dfd, &s);
        for (size_t n = 0; n < s.size; n++) {
                _cleanup_(tree_freep) Tree *found = NULL;
                const char kept = s.data[n];
                unsigned i = N_STEPS;

                write_part(dfd, "cut", s.data, n);
                s.data[n] ^= 1;
                write_part(dfd, "wrong", s.data, s.size);
                s.data[n] = kept;
                if (n < s.sizes[0]) {
                        assert_int_equal(manifest_read(dfd, "cut", &found), -EBADMSG);
                        assert_int_equal(manifest_read(dfd, "wrong", &found), -EBADMSG);
                        continue;
                }
                while (s.sizes[i] > n)
                        i--;
                assert_reads(dfd, "cut", s.texts[i]);
                assert_reads(dfd, "wrong", s.texts[i]);
        }
}

/* Whoever goes on with it loses nothing more, and leaves nothing of what was cut short. */
static void test_goes_on(void **state) {
        _cleanup_close_ int dfd = open_records();
        _cleanup_(steps_done) Steps s = { 0 };

        write_steps(dfd, &s);
        for (size_t n = s.sizes[1]; n < s.sizes[2]; n++) {
                _cleanup_(tree_freep) Tree *found = NULL;

                write_part(dfd, "cut", s.data, n);
                assert_return_code(manifest_read(dfd, "cut", &found), 0);
                change(found, 1);
                assert_return_code(manifest_update(found->root, dfd, "cut", /* sync= */ false), 0);
                assert_reads(dfd, "cut", s.texts[2]);
        }
        /* What others have appended is not overwritten: all of it is written anew, and is what we know. */
        write_part(dfd, "record", s.data, s.sizes[2]);
        assert_false(manifest_is_same(s.tree, dfd, "record"));
        assert_return_code(manifest_update(s.tree->root, dfd, "record", /* sync= */ false), 0);
        assert_true(manifest_is_same(s.tree, dfd, "record"));
        assert_reads(dfd, "record", s.texts[N_STEPS]);
}

/* One of an earlier format is written anew before anything is appended: who knows only that would stop
 * reading, or read half. */
static void test_earlier_is_not_appended_to(void **state) {
        static const char body[] = HEADER("4") "D\0"
                                               "11 22 aa\0\0\0\0"
                                               "E8 0 1 100 abc d1 d2 d3 some";
        _cleanup_(tree_freep) Tree *t = NULL;
        _cleanup_free_ char *data = NULL, *text = NULL;
        Path path = at("records");
        _cleanup_close_ int dfd = -EBADF;

        assert_int_equal(read_record(body, sizeof(body), &t), 0);
        dfd = open(path.s, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        node_find(t->root, "some")->base = 1;
        assert_return_code(manifest_update(t->root, dfd, "record", /* sync= */ true), 0);
        assert_return_code(file_read(dfd, "record", SIZE_MAX, &data, NULL), 0);
        assert_string_equal(data, "ovlfind-manifest 5");
        text = text_of(t);
        assert_reads(dfd, "record", text);
        /* Nor is anything behind an earlier one read. */
        write_record(dfd, body, sizeof(body));
        free(data);
        data = NULL;
        assert_return_code(file_read(dfd, "record", SIZE_MAX, &data, NULL), 0);
        write_part(dfd, "record", data, size_of(dfd, "record") + 1);
        assert_int_equal(manifest_read(dfd, "record", &(Tree *){ NULL }), -EBADMSG);
}

/* A node or an entry of it. */
static Node *random_node(Tree *t, uint64_t *seed) {
        Node **nodes = NULL, *n;
        size_t k;

        assert_return_code(tree_list(t, &nodes, &k), 0);
        n = nodes[random_next(seed) % k];
        free(nodes);
        return n;
}

static bool is_below(const Node *n, const Node *top) {
        while (n && n != top)
                n = n->parent;
        return n;
}

static void change_at_random(Tree *t, int dfd, uint64_t *seed) {
        Node *n = random_node(t, seed), *other = random_node(t, seed);
        char name[] = { (char) ('a' + random_next(seed) % 5), '\0' };
        Entry *e = node_find(n, name), *late;
        uint64_t number = random_next(seed) % 1000 + 1;

        switch (random_next(seed) % 7) {
        case 0:
                if (!e)
                        add(n, name, DT_REG)->is_local = number % 2;
                break;
        case 1:
                if (!e)
                        (void) make_node(n, name, number);
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
                if (e && !e->dir) {
                        e->base = number;
                        e->is_placed = number % 2;
                }
                n->base = number;
                break;
        case 5:
                if (node_add_late(n, name, DT_DIR, &late) >= 0)
                        node_set_old_inode(late->dir, number);
                break;
        default: /* is moved, at once or after it was written as being nowhere */
                if (!n->entry || is_below(other, n))
                        break;
                node_detach(n);
                if (number % 2)
                        assert_return_code(manifest_update(t->root, dfd, "log", false), 0);
                if (node_attach(n, other, name) < 0)
                        tree_drop_detached(t, n);
        }
}

/* Whatever happens to a tree, what is appended says the same as the tree. */
static void test_random(void **state) {
        _cleanup_close_ int dfd = open_records();
        unsigned n_appended = 0;

        for (uint64_t round = 1; round <= 20; round++) {
                _cleanup_(tree_freep) Tree *t = make_tree();
                uint64_t seed = round;

                for (unsigned i = 0; i < 60; i++) {
                        size_t whole = t->file.whole;
                        _cleanup_free_ char *text = NULL;

                        for (uint64_t k = random_next(&seed) % 6; k-- > 0;)
                                change_at_random(t, dfd, &seed);
                        assert_return_code(manifest_update(t->root, dfd, "log", /* sync= */ false), 0);
                        n_appended += t->file.whole == whole;
                        text = text_of(t);
                        assert_reads(dfd, "log", text);
                }
        }
        assert_true(n_appended > 1000);
}

/* By all writes of this process. */
static uint64_t written_bytes(void) {
        _cleanup_fclose_ FILE *f = fopen("/proc/self/io", "re");
        unsigned long long n;

        assert_non_null(f);
        assert_int_equal(fscanf(f, "rchar: %*u wchar: %llu", &n), 1);
        return n;
}

static int replace_one(Node *n, void *userdata) {
        char name[] = "18";

        node_find(n, "17")->base = 7;
        return record_forget(n, name);
}

/* What a refresh of 1,000 directories of a large record writes is nothing beside the record. */
static void test_many_edits(void **state) {
        _cleanup_close_ int dfd = open_records();
        _cleanup_(record_editor_done) RecordEditor editor = { .records_fd = dfd };
        _cleanup_(tree_freep) Tree *t = make_tree(), *found = NULL;
        uint64_t before;
        char name[16];

        for (unsigned i = 0; i < 1000; i++) {
                (void) snprintf(name, sizeof(name), "d%u", i);
                Node *n = make_node(t->root, name, i + 1);

                for (unsigned k = 0; k < 100; k++) {
                        (void) snprintf(name, sizeof(name), "%u", k);
                        add(n, name, DT_REG)->inode = 1000 + 100 * i + k;
                }
        }
        assert_return_code(manifest_write(t, dfd, t->id), 0);
        before = written_bytes();
        n_syncs = 0;
        for (unsigned i = 0; i < 1000; i++) {
                (void) snprintf(name, sizeof(name), "d%u", i);
                assert_return_code(
                        record_edit(&editor, node_find(t->root, name)->dir, replace_one, NULL), 0);
        }
        assert_in_range(written_bytes() - before, 1000, size_of(dfd, t->id) / 4);
        assert_int_equal(n_syncs, 1000);
        assert_return_code(manifest_read(dfd, t->id, &found), 0);
        for (unsigned i = 0; i < 1000; i++) {
                (void) snprintf(name, sizeof(name), "d%u", i);
                assert_int_equal(node_find(node_find(found->root, name)->dir, "17")->base, 7);
                assert_null(node_find(node_find(found->root, name)->dir, "18"));
        }
}

/* What is taken over from an old tree, one by one, into one large directory: the file grows, and is written
 * anew now and then, which costs no more than that. */
static void test_many_updates(void **state) {
        _cleanup_close_ int dfd = open_records();
        _cleanup_(tree_freep) Tree *t = make_tree();
        _cleanup_free_ char *text = NULL;
        uint64_t before;
        char name[16];

        for (unsigned i = 0; i < 200; i++) {
                (void) snprintf(name, sizeof(name), "%u", i);
                add(t->root, name, DT_REG);
        }
        assert_return_code(manifest_update(t->root, dfd, "log", /* sync= */ true), 0);
        before = written_bytes();
        for (unsigned i = 200; i < 1000; i++) {
                (void) snprintf(name, sizeof(name), "%u", i);
                add(t->root, name, DT_REG);
                assert_return_code(manifest_update(t->root, dfd, "log", /* sync= */ false), 0);
        }
        assert_in_range(written_bytes() - before, 1000, 10 * size_of(dfd, "log"));
        text = text_of(t);
        assert_reads(dfd, "log", text);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                unit_test_scratch(test_format_1),     unit_test_scratch(test_format_2),
                unit_test_scratch(test_format_3),     unit_test_scratch(test_format_4),
                unit_test_scratch(test_refused),      unit_test_scratch(test_cut_short),
                unit_test_scratch(test_goes_on),      unit_test_scratch(test_earlier_is_not_appended_to),
                unit_test_scratch(test_random),       unit_test_scratch(test_many_edits),
                unit_test_scratch(test_many_updates),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
