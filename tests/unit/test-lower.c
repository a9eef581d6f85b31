/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Plain directories stand for lower layers: what counts as removed, as replaced, or as the same file, and
 * what says only that nobody knows. How layers are opened and proved is for the system tests. */
#include "unit.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/fs-util.h"
#include "core/lower/lower.h"

#define ORIGIN_HEADER 21

static struct {
        int fds[2];
        bool has_handles[2];
        Lower lower;
} world;

static int world_setup(void **state) {
        if (scratch_setup(state) < 0)
                return -1;
        for (size_t i = 0; i < ELEMENTSOF(world.fds); i++) {
                make_directory(at("lower%zu/d/sub", i).s);
                world.fds[i] = open_directory(at("lower%zu", i).s);
                world.has_handles[i] = true;
        }
        make_text(at("lower0/d/file").s, "text");
        make_text(at("lower0/d/other").s, "other");
        make_text(at("lower0/d/sub/below").s, "below");
        world.lower = (Lower){ .layer_fds = world.fds,
                               .path_fds = world.fds,
                               .has_handles = world.has_handles,
                               .n_layers = 1,
                               .view_fd = world.fds[0],
                               .has_ctime = true };
        return 0;
}

static int world_teardown(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(world.fds); i++)
                (void) fd_close(world.fds[i]);
        return scratch_teardown(state);
}

static int stat_at(const char *path) {
        struct stat st;

        return lower_stat(&world.lower, path, &st);
}

static void remove_file(const char *path) {
        assert_return_code(unlink(at("%s", path).s), errno);
}

/* Removed and made anew: another directory with the same name. */
static void make_anew(const char *path) {
        assert_return_code(rename(at("%s", path).s, at("before").s), errno);
        make_directory(at("%s", path).s);
}

static void test_stat(void **state) {
        char longer[300];

        memset(longer, 'x', sizeof(longer) - 1);
        longer[sizeof(longer) - 1] = '\0';
        assert_return_code(symlink("d", at("lower0/link").s), errno);
        assert_int_equal(stat_at(""), 0);
        assert_int_equal(stat_at("d/file"), 0);
        assert_int_equal(stat_at("link"), 0);
        assert_int_equal(stat_at("d/none"), -ENOENT);
        assert_int_equal(stat_at("none/none"), -ENOENT);
        assert_int_equal(stat_at("d/file/none"), -ENOENT);
        assert_int_equal(stat_at("link/file"), -ENOENT);
        assert_int_equal(stat_at(longer), -ENOENT);
        if (mknod(at("lower0/d/whiteout").s, S_IFCHR, makedev(0, 0)) >= 0)
                assert_int_equal(stat_at("d/whiteout"), -ENOENT);
}

static void test_open(void **state) {
        _cleanup_close_ int fd = lower_open_dir(&world.lower, "d"),
                            file_fd = lower_open_file(&world.lower, "d/file", 0);
        char text[8] = "";

        assert_true(fd >= 0);
        assert_int_equal(read(file_fd, text, sizeof(text)), 4);
        assert_string_equal(text, "text");
        assert_int_equal(lower_open_dir(&world.lower, "d/file"), -ENOTDIR);
        assert_int_equal(lower_open_dir(&world.lower, "d/none"), -ENOENT);
        assert_int_equal(lower_open_file(&world.lower, "d/none", 0), -ENOENT);
}

static void test_is_replaced(void **state) {
        assert_int_equal(lower_is_replaced(&world.lower, "d/file"), 1);
        assert_int_equal(lower_is_replaced(&world.lower, "d/file/none/below"), 1);
        assert_int_equal(lower_is_replaced(&world.lower, "d"), 0);
        assert_int_equal(lower_is_replaced(&world.lower, "d/none"), 0);
}

static void test_lists(void **state) {
        _cleanup_paths_ PathList l = { 0 }, none = { 0 };
        bool has_file = false;

        assert_return_code(lower_list(&world.lower, "d", &l), 0);
        for (size_t i = 0; i < l.n; i++)
                has_file |= strcmp(l.items[i], "file") == 0;
        assert_true(has_file);
        assert_int_equal(lower_list(&world.lower, "none", &none), -ENOENT);
        assert_int_equal(none.n, 0);
        assert_false(lower_is_whiteout(&world.lower, "d/file"));
        assert_false(lower_is_whiteout(&world.lower, "d/none"));
}

/* What lower_is_removed() says of path after change(), with what was known before. */
static int removed_after(const char *path, const char *known, void (*change)(void), Failure *reterr) {
        _cleanup_free_ char *identity = NULL;

        assert_return_code(lower_identify(&world.lower, known, &identity), 0);
        change();
        return lower_is_removed(&world.lower, path, known, identity, reterr);
}

#define assert_removed(path, known, change)                                                                 \
        do {                                                                                                \
                _cleanup_failure_ Failure f_ = FAILURE_INIT;                                                \
                if (removed_after(path, known, change, &f_) != 1)                                           \
                        fail_msg("%s", f_.message);                                                         \
        } while (0)

#define assert_out_of_reach(path, known, change, why)                                                       \
        do {                                                                                                \
                _cleanup_failure_ Failure f_ = FAILURE_INIT;                                                \
                assert_true(removed_after(path, known, change, &f_) < 0);                                   \
                assert_int_equal(f_.kind, FAILURE_LOWER_UNREACHABLE);                                       \
                assert_contains(f_.message, why);                                                           \
        } while (0)

static void change_nothing(void) {
}

static void change_file(void) {
        remove_file("lower0/d/file");
}

static void change_last(void) {
        remove_file("lower0/d/sub/below");
}

static void change_directory(void) {
        remove_file("lower0/d/sub/below");
        assert_return_code(rmdir(at("lower0/d/sub").s), errno);
}

static void change_parent(void) {
        make_anew("lower0/d");
        make_text(at("lower0/d/other").s, "other");
}

static void change_root(void) {
        world.fds[0] = fd_close(world.fds[0]);
        world.lower.view_fd = world.fds[0] = open_directory(at("lower1").s);
}

static void change_second_layer(void) {
        world.fds[1] = fd_close(world.fds[1]);
        make_anew("lower1/d");
        world.fds[1] = open_directory(at("lower1").s);
        remove_file("lower0/d/file");
}

static void test_removed(void **state) {
        Failure f = FAILURE_INIT;

        assert_int_equal(removed_after("d/file", "d", change_nothing, &f), 0);
        assert_removed("d/file", "d", change_file);
        assert_removed("d/sub/below", "d/sub", change_directory);
}

static void test_not_known_to_be_removed(void **state) {
        assert_out_of_reach("d/sub/below", "d/sub", change_last, "the directory around it is empty");
        assert_out_of_reach("d/file", "d", change_parent, "another one than before");
}

static void test_another_layer(void **state) {
        assert_out_of_reach("d/file", "d", change_root, "another one than before");
}

static void test_another_second_layer(void **state) {
        world.lower.n_layers = 2;
        assert_out_of_reach("d/file", "d", change_second_layer, "another one than before");
}

static void test_other_layers(void **state) {
        _cleanup_failure_ Failure fewer = FAILURE_INIT, more = FAILURE_INIT, none = FAILURE_INIT;
        _cleanup_free_ char *one = NULL, *two = NULL;

        assert_return_code(lower_identify(&world.lower, "d", &one), 0);
        world.lower.n_layers = 2;
        assert_return_code(lower_identify(&world.lower, "d", &two), 0);
        change_file();
        assert_true(lower_is_removed(&world.lower, "d/file", "d", one, &more) < 0);
        assert_contains(more.message, "other lower layers than before");
        world.lower.n_layers = 1;
        assert_true(lower_is_removed(&world.lower, "d/file", "d", two, &fewer) < 0);
        assert_contains(fewer.message, "other lower layers than before");
        assert_true(lower_is_removed(&world.lower, "d/file", "d", NULL, &none) < 0);
        assert_contains(none.message, "not recorded");
}

/* As overlayfs stores it (struct ovl_fb). */
static size_t make_origin(const char *path, char *origin) {
        FileHandle h = { .handle.handle_bytes = MAX_HANDLE_SZ };
        int mount_id;

        if (name_to_handle_at(AT_FDCWD, path, &h.handle, &mount_id, 0) < 0)
                skip(); /* this file system has none */
        memset(origin, 0, ORIGIN_HEADER);
        origin[1] = (char) 0xfb;
        origin[2] = (char) (ORIGIN_HEADER + h.handle.handle_bytes);
        origin[4] = (char) h.handle.handle_type;
        memcpy(origin + ORIGIN_HEADER, h.handle.f_handle, h.handle.handle_bytes);
        return ORIGIN_HEADER + h.handle.handle_bytes;
}

static void test_origin(void **state) {
        char origin[ORIGIN_HEADER + MAX_HANDLE_SZ];
        size_t n = make_origin(at("lower0/d/file").s, origin);

        assert_int_equal(lower_is_origin(&world.lower, "d/file", origin, n), 1);
        assert_int_equal(lower_is_origin(&world.lower, "d/other", origin, n), 0);
        assert_int_equal(lower_is_origin(&world.lower, "d/none", origin, n), -ENODATA);
        assert_int_equal(lower_is_origin(&world.lower, "d/file", NULL, 0), -ENODATA);
        assert_int_equal(lower_is_origin(&world.lower, "d/file", origin, ORIGIN_HEADER), -ENODATA);
        assert_int_equal(lower_is_origin(&world.lower, "d/file", origin, n - 1), -ENODATA);
        origin[1] = 0;
        assert_int_equal(lower_is_origin(&world.lower, "d/file", origin, n), -ENODATA);
        origin[1] = (char) 0xfb;
        world.has_handles[0] = false;
        assert_int_equal(lower_is_origin(&world.lower, "d/file", origin, n), -ENODATA);
}

static void test_ctime(void **state) {
        struct stat st;

        assert_int_equal(lower_stat(&world.lower, "d/file", &st), 0);
        assert_int_equal(lower_ctime(&world.lower, &st), 0); /* too young */
        st.st_ctim.tv_sec -= 10;
        assert_int_not_equal(lower_ctime(&world.lower, &st), 0);
        world.lower.has_ctime = false;
        assert_int_equal(lower_ctime(&world.lower, &st), 0);
}

#define world_test(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                world_test(test_stat),          world_test(test_open),
                world_test(test_is_replaced),   world_test(test_lists),
                world_test(test_removed),       world_test(test_not_known_to_be_removed),
                world_test(test_another_layer), world_test(test_another_second_layer),
                world_test(test_other_layers),  world_test(test_origin),
                world_test(test_ctime),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
