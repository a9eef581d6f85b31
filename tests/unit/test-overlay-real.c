/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading overlays that were really mounted: how the kernel spells their layers is not documented. */
#include "unit.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "core/mount/overlay.h"

static const char *const nasty_names[] = {
        "plain",   "sp ace", "co,mma",   "co:lon",          "back\\slash",   "\\",    "trail\\",
        "nl\nx",   "tab\tx", "hash#x",   "nonutf\xff\xfe",  "b\\:c",         "b\\,c", "b\\\\c",
        "\\054",   "::",     "q\"'x",    "eq=x,upperdir=y", "ctl\x01\x7f\r", "-",     "(deleted)",
        "a\\040b", "%s",     "\303\244",
};

static void make_layers(const char *name) {
        make_directory(at("%s/l", name).s);
        make_directory(at("%s/m", name).s);
        make_directory(at("%s/u", name).s);
        make_directory(at("%s/w", name).s);
        make_directory(at("%s/mp", name).s);
}

static void compare_real(const char *name) {
        _cleanup_(overlay_freep) Overlay *o = NULL;
        _cleanup_failure_ Failure f = FAILURE_INIT;
        struct stat st;

        if (overlay_load(NULL, at("%s/mp", name).s, NULL, &o, &f) < 0)
                fail_msg("'%s': %s", name, f.message);
        assert_string_equal(o->mount_point, at("%s/mp", name).s);
        assert_int_equal(o->n_lower, 2);
        assert_string_equal(o->lower[0], at("%s/l", name).s);
        assert_string_equal(o->lower[1], at("%s/m", name).s);
        assert_string_equal(o->upper, at("%s/u", name).s);
        assert_string_equal(o->work, at("%s/w", name).s);
        assert_int_equal(o->metacopy, TRI_YES);
        assert_int_equal(o->redirect, REDIRECT_ON);
        assert_return_code(stat(o->mount_point, &st), errno);
        assert_true(st.st_dev == o->device);
}

/* The kernel is the judge: it has to take what overlay_format_options() gives, and show it so that it is
 * read back. */
static void test_real_mount(void **state) {
        need_mounts();
        for (size_t i = 0; i < ELEMENTSOF(nasty_names); i++) {
                const char *name = nasty_names[i];
                Path l = at("%s/l", name), m = at("%s/m", name), u = at("%s/u", name), w = at("%s/w", name);
                char *lower[] = { l.s, m.s, NULL }, *none[] = { NULL };
                Overlay made = { .lower = lower, .data = none, .upper = u.s, .work = w.s };
                _cleanup_free_ char *options = overlay_format_options(&made);

                make_layers(name);
                mount_overlay(at("%s/mp", name).s, options);
                compare_real(name);
        }
}

static void set_layer(int fd, const char *key, const char *path) {
        int layer;

        /* upperdir and workdir are unescaped by the kernel when given as strings, a descriptor is taken as
         * it is; then the table is ambiguous, so those names are left out by the caller. */
        if (fsconfig(fd, FSCONFIG_SET_STRING, key, path, 0) >= 0)
                return;
        layer = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        assert_return_code(layer, errno);
        assert_return_code(fsconfig(fd, FSCONFIG_SET_FD, key, NULL, layer), errno);
        (void) fd_close(layer);
}

static void mount_by_layer(const char *name) {
        _cleanup_close_ int fd = fsopen("overlay", FSOPEN_CLOEXEC), mnt = -EBADF;

        assert_return_code(fd, errno);
        set_layer(fd, "lowerdir+", at("%s/l", name).s);
        set_layer(fd, "lowerdir+", at("%s/m", name).s);
        set_layer(fd, "upperdir", at("%s/u", name).s);
        set_layer(fd, "workdir", at("%s/w", name).s);
        assert_return_code(fsconfig(fd, FSCONFIG_SET_STRING, "metacopy", "on", 0), errno);
        assert_return_code(fsconfig(fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0), errno);
        mnt = fsmount(fd, FSMOUNT_CLOEXEC, 0);
        assert_return_code(mnt, errno);
        assert_return_code(
                move_mount(mnt, "", AT_FDCWD, at("%s/mp", name).s, MOVE_MOUNT_F_EMPTY_PATH), errno);
}

static bool has_lowerdir_plus(void) {
        _cleanup_close_ int fd = fsopen("overlay", FSOPEN_CLOEXEC);

        return fd >= 0 && fsconfig(fd, FSCONFIG_SET_STRING, "lowerdir+", "/", 0) >= 0;
}

static void test_real_layers(void **state) {
        need_mounts();
        if (!has_lowerdir_plus()) {
                print_message("skipped: this kernel knows no lowerdir+ (Linux 6.7)\n");
                skip();
        }
        for (size_t i = 0; i < ELEMENTSOF(nasty_names); i++) {
                if (strchr(nasty_names[i], '\\'))
                        continue;
                make_layers(nasty_names[i]);
                mount_by_layer(nasty_names[i]);
                compare_real(nasty_names[i]);
        }
}

static void test_real_covered(void **state) {
        _cleanup_failure_ Failure f = FAILURE_INIT, g = FAILURE_INIT;
        char options[3 * UNIT_PATH_MAX];
        Overlay *o = NULL;

        need_mounts();
        make_layers("a");
        (void) snprintf(options, sizeof(options), "lowerdir=%s:%s", at("a/l").s, at("a/m").s);
        mount_overlay(at("a/mp").s, options);
        assert_return_code(mount("cover", at("a/mp").s, "tmpfs", 0, NULL), errno);
        assert_int_equal(overlay_load(NULL, at("a/mp").s, NULL, &o, &f), -EMEDIUMTYPE);
        assert_contains(f.message, "tmpfs mount (cover)");
        assert_return_code(umount(at("a/mp").s), errno);
        assert_return_code(overlay_load(NULL, at("a/mp").s, NULL, &o, NULL), 0);
        o = overlay_free(o);
        assert_return_code(mount("cover", at("a").s, "tmpfs", 0, NULL), errno);
        assert_int_equal(overlay_load(NULL, at("a/mp").s, NULL, &o, &g), -EMEDIUMTYPE);
        assert_contains(g.message, at("a'").s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                unit_test_scratch(test_real_mount),
                unit_test_scratch(test_real_layers),
                unit_test_scratch(test_real_covered),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
