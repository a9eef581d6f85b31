/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Checks that compare the overlay with its surroundings: other mounts, other namespaces. */
#include "check-fixture.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>

/* Known by its number if it has one, by its times otherwise. */
static void try_upper_gone(const char *options) {
        _cleanup_(overlay_freep) Overlay *o = NULL;

        mount_layers("l", "u", "w", "mp", options);
        o = load_overlay("mp");
        assert_check(o, "upper-path", CHECK_OK, "is the upper layer", NULL);
        assert_return_code(rename(at("u").s, at("away").s), errno);
        assert_check(o, "upper-path", CHECK_FAIL, "is not the upper layer", "UpperDir=");
        make_directory(at("u").s); /* another one in its place */
        assert_check(o, "upper-path", CHECK_FAIL, "is not the upper layer", "UpperDir=");
        assert_return_code(rmdir(at("u").s), errno);
        assert_return_code(rename(at("away").s, at("u").s), errno);
        assert_check(o, "upper-path", CHECK_OK, "is the upper layer", NULL);
        assert_return_code(mount("cover", at("u").s, "tmpfs", 0, NULL), errno);
        assert_check(o, "upper-path", CHECK_FAIL, "is not the upper layer", "UpperDir=");
        assert_return_code(umount(at("u").s), errno);
        assert_return_code(umount(at("mp").s), errno);
        assert_check(o, "upper-path", CHECK_FAIL, "another file system", "try again");
}

static void test_upper_gone(void **state) {
        need_mounts();
        try_upper_gone(",metacopy=on");
        try_upper_gone(",metacopy=on,uuid=off");
}

static void set_descriptor(int fd, const char *key, const char *path) {
        _cleanup_close_ int layer = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

        assert_return_code(layer, errno);
        if (fsconfig(fd, FSCONFIG_SET_FD, key, NULL, layer) >= 0)
                return;
        print_message("skipped: this kernel takes no layers by descriptor (Linux 6.13)\n");
        skip();
}

/* The table then shows the upper without escapes, as it would show another one with them. */
static void mount_by_descriptor(const char *upper, const char *work, const char *target) {
        _cleanup_close_ int fd = fsopen("overlay", FSOPEN_CLOEXEC), mnt = -EBADF;

        assert_return_code(fd, errno);
        make_directory(upper);
        make_directory(work);
        make_directory(target);
        set_descriptor(fd, "lowerdir+", at("l").s);
        set_descriptor(fd, "upperdir", upper);
        set_descriptor(fd, "workdir", work);
        assert_return_code(fsconfig(fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0), errno);
        mnt = fsmount(fd, FSMOUNT_CLOEXEC, 0);
        assert_return_code(mnt, errno);
        assert_return_code(move_mount(mnt, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH), errno);
}

static void test_upper_by_descriptor(void **state) {
        _cleanup_(overlay_freep) Overlay *o = NULL, *misread = NULL;

        need_mounts();
        make_directory(at("a\\b").s);
        mount_layers("l", "a\\\\b", "w", "mp", ",metacopy=on"); /* as an option, for "a\\b" */
        assert_return_code(rmdir(at("a\\\\b").s), errno);       /* made by the helper, not used */
        o = load_overlay("mp");
        assert_string_equal(o->upper, at("a\\b").s);
        assert_check(o, "second-overlay", CHECK_OK, "no other", NULL);
        mount_by_descriptor(at("a\\b").s, at("w2").s, at("mp2").s);
        assert_check(o, "second-overlay", CHECK_FAIL, at("mp2").s, "unmount one");
        assert_return_code(umount(at("mp2").s), errno);
        mount_layers("l", "a\\\\b", "w3", "mp3", ",metacopy=on,index=off");
        assert_check(o, "second-overlay", CHECK_FAIL, at("mp3").s, "unmount one");
        assert_return_code(umount(at("mp3").s), errno);
        assert_return_code(rmdir(at("a\\\\b").s), errno);
        mount_by_descriptor(at("a\\b").s, at("w2").s, at("mp2").s);
        misread = load_overlay("mp2");
        assert_check(misread, "upper-path", CHECK_FAIL, "is not the upper layer", "UpperDir=");
}

/* The same upper under the same path, another path, and in another mount namespace. */
static void mount_second(void *userdata) {
        mount_layers("l", userdata, "w2", "second", ",metacopy=on,index=off");
}

static void test_second_overlay(void **state) {
        static char same[] = "u", alias[] = "alias";
        _cleanup_(overlay_freep) Overlay *o = NULL;
        Neighbour neighbour;

        need_mounts();
        o = mount_good();
        mount_layers("l", "u3", "w3", "third", ",metacopy=on");
        assert_check(o, "second-overlay", CHECK_OK, "no other", NULL);
        mount_second(same);
        assert_check(o, "second-overlay", CHECK_FAIL, at("second").s, "unmount one");
        assert_return_code(umount(at("second").s), errno);
        assert_return_code(symlink("u", at("alias").s), errno);
        mount_second(alias);
        assert_check(o, "second-overlay", CHECK_FAIL, at("second").s, "unmount one");
        assert_return_code(umount(at("second").s), errno);
        assert_check(o, "second-overlay", CHECK_OK, "no other", NULL);
        neighbour_start(&neighbour, mount_second, alias);
        assert_check(o, "second-overlay", CHECK_FAIL, at("second").s, "unmount one");
        neighbour_stop(&neighbour);
}

static void test_other_namespaces(void **state) {
        _cleanup_(overlay_freep) Overlay *o = NULL;
        Neighbour neighbour;
        char pid[32];

        need_mounts();
        o = mount_good();
        assert_check(o, "other-namespaces", CHECK_OK, "no other mount namespace", NULL);
        neighbour_start(&neighbour, NULL, NULL);
        (void) snprintf(pid, sizeof(pid), "process %d)", (int) neighbour.pid);
        assert_check(o, "other-namespaces", CHECK_OK, pid, NULL);
        assert_check(o, "second-overlay", CHECK_OK, "no other", NULL);
        neighbour_stop(&neighbour);
}

static void test_nested_lower(void **state) {
        _cleanup_(overlay_freep) Overlay *o = NULL;

        need_mounts();
        mount_layers("l", "u", "w", "mp", ",metacopy=on");
        mount_layers("mp/d", "u2", "w2", "mp2", ",metacopy=on");
        o = load_overlay("mp2");
        assert_check(o, "nested-lower", CHECK_WARNING, at("mp").s, "lower layers of this one");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                unit_test_scratch(test_upper_gone),     unit_test_scratch(test_upper_by_descriptor),
                unit_test_scratch(test_second_overlay), unit_test_scratch(test_other_namespaces),
                unit_test_scratch(test_nested_lower),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
