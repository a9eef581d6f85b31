/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Plain directories stand for the lower view and for a finalized directory of the upper: whatever its files
 * were copied from, their data is in the upper. */
#include "unit.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/fs-util.h"
#include "core/lower/difference.h"
#include "core/upper/digest.h"

static struct {
        Overlay overlay;
        Context context;
        Lower lower;
        int layer_fd, upper_fd;
        bool has_handles;
        Tree *tree;
        char found[256];
} world;

static int world_setup(void **state) {
        if (scratch_setup(state) < 0)
                return -1;
        make_directory(at("lower/d").s);
        make_directory(at("upper").s);
        world.overlay = (Overlay){ .index = TRI_NO };
        world.context = CONTEXT_INIT;
        world.context.overlay = &world.overlay;
        world.layer_fd = open_directory(at("lower").s);
        world.upper_fd = open_directory(at("upper").s);
        world.lower = (Lower){ .layer_fds = &world.layer_fd,
                               .path_fds = &world.layer_fd,
                               .has_handles = &world.has_handles,
                               .n_layers = 1,
                               .view_fd = world.layer_fd };
        assert_return_code(tree_new("d", "0123456789abcdef", /* is_undo= */ false, &world.tree), 0);
        world.tree->root->lower = strdup("d");
        return 0;
}

static int world_teardown(void **state) {
        world.tree = tree_free(world.tree);
        (void) fd_close(world.layer_fd);
        (void) fd_close(world.upper_fd);
        return scratch_teardown(state);
}

static void set_time(const char *path, time_t seconds) {
        const struct timespec times[2] = { { .tv_sec = seconds }, { .tv_sec = seconds } };

        assert_return_code(utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW), errno);
}

static void make_lower(const char *name, const char *text) {
        make_text(at("lower/d/%s", name).s, text);
        set_time(at("lower/d/%s", name).s, 1600000000);
}

static void make_upper(const char *name, const char *text) {
        make_text(at("upper/%s", name).s, text);
        set_time(at("upper/%s", name).s, 1600000000);
}

static Entry *record(const char *name, unsigned char type) {
        Path lower;
        Entry *e;

        (void) snprintf(lower.s, sizeof(lower.s), "d/%s", name);
        assert_return_code(node_add(world.tree->root, name, type, &e), 0);
        difference_note(e, &world.lower, lower.s);
        return e;
}

/* A file as it is after its directory was finalized. */
static Entry *finalize_file(const char *name, const char *text) {
        make_lower(name, text);
        make_upper(name, text);
        return record(name, DT_REG);
}

static int note(const Difference *d, void *userdata) {
        static const char kinds[_DIFFERENCE_KIND_MAX] = { 'N', 'R', 'C', 'A' };
        size_t n = strlen(world.found);

        (void) snprintf(
                world.found + n, sizeof(world.found) - n, "%s%c:%s%s", n > 0 ? " " : "", kinds[d->kind],
                d->name, d->is_locally_modified ? "!" : "");
        return 0;
}

static int find(Failure *reterr) {
        const DifferenceScope scope = { .context = &world.context,
                                        .lower = &world.lower,
                                        .node = world.tree->root,
                                        .upper_fd = world.upper_fd };

        world.found[0] = '\0';
        return difference_find(&scope, note, NULL, reterr);
}

#define assert_found(expected)                                                                              \
        do {                                                                                                \
                _cleanup_failure_ Failure f_ = FAILURE_INIT;                                                \
                assert_int_equal(find(&f_), DIFFERENCES_FOUND);                                             \
                assert_string_equal(world.found, expected);                                                 \
        } while (0)

static void test_same(void **state) {
        (void) finalize_file("a", "text");
        make_directory(at("lower/d/sub").s);
        make_directory(at("upper/sub").s);
        record("sub", DT_DIR)->dir->lower = strdup("d/sub");
        difference_note_directory(world.tree->root, &world.lower);
        assert_found("");
}

/* What the record knows is no news, deleted or not; nor is what carries a name of ours. */
static void test_new(void **state) {
        (void) finalize_file("a", "text");
        make_lower("deleted", "text");
        (void) record("deleted", DT_WHT);
        make_lower("new", "text");
        make_lower(".ovlfind", "");
        make_directory(at("lower/d/.ovlfind-old-0123456789abcdef").s);
        assert_found("N:new");
}

/* A name made here that the lower gets, too, is new there; unless a directory of the lower is recorded with
 * it, which goes by the record. */
static void test_new_beside_local(void **state) {
        Entry *moved;

        make_lower("made", "text");
        make_directory(at("lower/d/moved").s);
        record("made", DT_REG)->is_local = true;
        moved = record("moved", DT_DIR);
        moved->is_local = true;
        assert_return_code(node_add(moved->dir, "below", DT_DIR, &moved), 0);
        moved->dir->lower = strdup("elsewhere");
        assert_found("N:made");
}

static void test_changed(void **state) {
        (void) finalize_file("size", "text");
        make_lower("size", "longer");
        assert_found("C:size");
        make_lower("size", "text");
        assert_found("");
        set_time(at("lower/d/size").s, 1600000001);
        assert_found("C:size");
        set_time(at("lower/d/size").s, 1600000000);
        assert_return_code(chmod(at("lower/d/size").s, 0755), errno);
        assert_found("C:size");
}

/* It was written through the overlay, and the lower has changed it as well. */
static void test_own(void **state) {
        (void) finalize_file("a", "text");
        make_upper("a", "mine");
        set_time(at("upper/a").s, 1700000000);
        assert_found(""); /* nobody's affair as long as the lower stays as it is */
        make_lower("a", "theirs");
        assert_found("C:a!");
}

/* While owner, mode and xattrs are being set, the record has the content alone; what a kill left half done
 * is nobody's. */
static void test_attributes_being_set(void **state) {
        Entry *e = finalize_file("a", "text");
        struct stat st;

        assert_return_code(stat(at("upper/a").s, &st), errno);
        e->base = digest_content(&st);
        assert_return_code(chmod(at("upper/a").s, 0600), errno);
        assert_found("C:a");
        set_time(at("upper/a").s, 1700000000);
        assert_found("C:a!");
}

static void make_whiteout(const char *path) {
        if (mknod(path, S_IFCHR | 0600, makedev(0, 0)) < 0)
                fail_msg("mknod %s: %s", path, strerror(errno));
}

/* Deleted, moved away or replaced by its users: nothing the lower does to the name is of any interest. */
static void test_gone_here(void **state) {
        (void) finalize_file("deleted", "text");
        (void) finalize_file("removed", "text");
        (void) finalize_file("directory", "text");
        for (const char *const *s = (const char *const[]){ "deleted", "removed", "directory", NULL }; *s;
             s++)
                assert_return_code(unlink(at("upper/%s", *s).s), errno);
        make_whiteout(at("upper/deleted").s);
        make_directory(at("upper/directory").s);
        make_lower("deleted", "longer");
        make_lower("removed", "longer");
        make_lower("directory", "longer");
        assert_found("");
}

/* The lower turns a file into a directory, or the other way round. */
static void test_other_kind(void **state) {
        (void) finalize_file("file", "text");
        assert_return_code(unlink(at("lower/d/file").s), errno);
        make_directory(at("lower/d/file").s);
        make_directory(at("lower/d/sub").s);
        make_directory(at("upper/sub").s);
        record("sub", DT_DIR)->dir->lower = strdup("d/sub");
        assert_return_code(rmdir(at("lower/d/sub").s), errno);
        make_lower("sub", "text");
        assert_found("C:file C:sub");
        assert_return_code(unlink(at("upper/file").s), errno);
        make_directory(at("upper/file").s); /* so did a user here */
        assert_found("N:file C:sub");
}

/* A directory that came here from elsewhere has nothing to do with what the lower has under the name. */
static void test_moved_directory(void **state) {
        make_directory(at("upper/sub").s);
        record("sub", DT_DIR)->dir->lower = strdup("other/sub");
        make_lower("sub", "text");
        assert_found("");
}

/* Missing is not removed: that takes a proof, which the record has, or somebody's word. */
static void test_removed(void **state) {
        _cleanup_failure_ Failure f = FAILURE_INIT;

        (void) finalize_file("a", "text");
        (void) finalize_file("b", "text");
        assert_return_code(unlink(at("lower/d/a").s), errno);
        assert_int_equal(find(&f), -ESTALE);
        assert_int_equal(f.kind, FAILURE_LOWER_UNREACHABLE);
        assert_string_equal(world.found, "");
        assert_return_code(lower_identify(&world.lower, "d", &world.tree->root->lower_identity), 0);
        assert_found("R:a");
        make_upper("a", "mine");
        set_time(at("upper/a").s, 1700000000);
        assert_found("R:a!");
}

/* The same names in another directory: an export that is away, or another one. */
static void test_removed_elsewhere(void **state) {
        _cleanup_failure_ Failure f = FAILURE_INIT, g = FAILURE_INIT;

        (void) finalize_file("a", "text");
        assert_return_code(lower_identify(&world.lower, "d", &world.tree->root->lower_identity), 0);
        assert_return_code(unlink(at("lower/d/a").s), errno);
        assert_int_equal(find(&f), -ESTALE); /* empty: perhaps nothing is mounted there */
        assert_contains(f.message, "is empty");
        assert_return_code(rename(at("lower/d").s, at("lower/before").s), errno);
        make_directory(at("lower/d").s);
        make_lower("b", "text");
        assert_int_equal(find(&g), -ESTALE);
        assert_contains(g.message, "is another one than before");
        world.context.options.force = true;
        assert_found("N:b R:a");
}

static void test_directory_gone(void **state) {
        _cleanup_failure_ Failure f = FAILURE_INIT;

        make_directory(at("lower/other").s);
        assert_return_code(lower_identify(&world.lower, "d", &world.tree->root->lower_identity), 0);
        (void) finalize_file("a", "text");
        assert_return_code(unlink(at("lower/d/a").s), errno);
        assert_return_code(rmdir(at("lower/d").s), errno);
        assert_int_equal(find(&f), DIFFERENCES_GONE);
        make_text(at("lower/d").s, "a file by now");
        assert_int_equal(find(&f), DIFFERENCES_REPLACED);
        assert_string_equal(world.found, "");
}

static void test_attributes(void **state) {
        difference_note_directory(world.tree->root, &world.lower);
        assert_return_code(chmod(at("upper").s, 0700), errno); /* a user's */
        assert_found("");
        assert_return_code(chmod(at("lower/d").s, 0750), errno);
        assert_found("A:!");
        assert_return_code(chmod(at("upper").s, 0755), errno); /* as it was */
        assert_found("A:");
        assert_return_code(chmod(at("upper").s, 0750), errno); /* as the lower has it */
        assert_found("");
        world.tree->root->base = BASELINE_IN_TRANSIT; /* a kill came in between */
        assert_found("A:");
}

/* Which names an undo must not hide, for they were never the lower's. */
static void test_local(void **state) {
        const Node *n = world.tree->root;
        UpperEntry made = { .class = UPPER_COMPLETE, .type = DT_REG },
                   whiteout = { .class = UPPER_WHITEOUT, .type = DT_CHR },
                   copy = { .class = UPPER_PLAIN, .type = DT_DIR, .has_origin = true },
                   directory = { .class = UPPER_PLAIN, .type = DT_DIR };

        make_lower("there", "text");
        assert_true(difference_is_local(n, "made", &made, &world.lower));
        assert_true(difference_is_local(n, "made", &directory, &world.lower));
        assert_false(difference_is_local(n, "there", &made, &world.lower));
        assert_false(difference_is_local(n, "made", &whiteout, &world.lower));
        assert_false(difference_is_local(n, "made", &copy, &world.lower));
        assert_return_code(unlink(at("lower/d/there").s), errno);
        assert_return_code(rename(at("lower/d").s, at("lower/away").s), errno);
        assert_false(difference_is_local(n, "made", &made, &world.lower)); /* who knows */
        world.lower.n_layers = 0;
        assert_false(difference_is_local(n, "made", &made, &world.lower));
}

#define world_test(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                world_test(test_same),
                world_test(test_new),
                world_test(test_new_beside_local),
                world_test(test_changed),
                world_test(test_own),
                world_test(test_attributes_being_set),
                world_test(test_gone_here),
                world_test(test_other_kind),
                world_test(test_moved_directory),
                world_test(test_removed),
                world_test(test_removed_elsewhere),
                world_test(test_directory_gone),
                world_test(test_attributes),
                world_test(test_local),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
