/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "base/hash.h"
#include "core/record/manifest.h"
#include "unit.h"

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

/* What is written is read: directories with what the lower showed, each with the identity of its own. */
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
        assert_return_code(manifest_write(t, dfd, "again", /* sync= */ false), 0);
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
        static const char later[] = HEADER("5") ROOT, none[] = HEADER("0") ROOT, mixed[] = HEADER("2") ROOT,
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

int main(void) {
        const struct CMUnitTest tests[] = {
                unit_test_scratch(test_format_1), unit_test_scratch(test_format_2),
                unit_test_scratch(test_format_3), unit_test_scratch(test_format_4),
                unit_test_scratch(test_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
