/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "check-fixture.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>

/* Every check says something about a good overlay, each once, none that it cannot be used; and nothing is
 * left behind. */
static void test_good(void **state) {
        static const char *const ids[] = {
                "upper",          "read-write",       "userxattr",  "metacopy",  "redirect-dir",
                "nfs-export",     "data-layers",      "upper-path", "work-path", "second-overlay",
                "user-namespace", "trusted-xattr",    "d-type",     "tmpfile",   "rename-whiteout",
                "casefold",       "nested-lower",     "index",      "verity",    "volatile",
                "xino",           "other-namespaces", "space",      "inodes",    "redirect-max",
                "inotify",
        };
        _cleanup_(check_list_done) CheckList l = { 0 };
        _cleanup_(overlay_freep) Overlay *o = NULL;
        _cleanup_failure_ Failure f = FAILURE_INIT;
        char names[256];

        need_mounts();
        o = mount_good();
        assert_return_code(overlay_check(o, &l), 0);
        assert_int_equal(l.n, ELEMENTSOF(ids));
        for (size_t i = 0; i < ELEMENTSOF(ids); i++)
                assert_non_null(check_list_find(&l, ids[i]));
        for (size_t i = 0; i < l.n; i++)
                if (l.items[i].level == CHECK_FAIL)
                        fail_msg("%s: %s", l.items[i].id, l.items[i].text);
        assert_return_code(check_list_to_failure(&l, o, &f), 0);
        assert_int_equal(f.kind, FAILURE_NONE);
        assert_null(check_list_find(&l, "none"));
        list_directory(at("u").s, names, sizeof(names));
        assert_string_equal(names, "");
        list_directory(at("w").s, names, sizeof(names));
        assert_string_equal(names, "work");
}

static char no_options[] = "rw", verity_required[] = "rw,verity=require", verity_on[] = "rw,verity=on";

static void no_metacopy(Overlay *o) {
        o->metacopy = TRI_NO;
}

static void unknown_metacopy(Overlay *o) {
        o->metacopy = TRI_UNKNOWN;
}

static void only_follow(Overlay *o) {
        o->redirect = REDIRECT_FOLLOW;
}

static void off_but_followed(Overlay *o) {
        o->redirect = REDIRECT_OFF;
}

static void no_follow(Overlay *o) {
        o->redirect = REDIRECT_NOFOLLOW;
        o->follows_redirects = false;
}

static void use_userxattr(Overlay *o) {
        o->is_userxattr = true;
}

static void nfs_exported(Overlay *o) {
        o->nfs_export = TRI_YES;
}

static void maybe_nfs_exported(Overlay *o) {
        o->nfs_export = TRI_UNKNOWN;
}

static void indexed(Overlay *o) {
        o->index = TRI_YES;
}

static void not_indexed(Overlay *o) {
        o->index = TRI_NO;
}

static void require_verity(Overlay *o) {
        o->fs_options = verity_required;
        o->is_verity_required = true;
}

static void use_verity(Overlay *o) {
        o->fs_options = verity_on;
}

static void no_verity(Overlay *o) {
        o->fs_options = no_options;
}

static void be_volatile(Overlay *o) {
        o->is_volatile = true;
}

static void data_only(Overlay *o) {
        o->n_data = o->n_lower;
        o->n_lower = 0;
}

static void some_data(Overlay *o) {
        o->n_data = 2;
}

static void read_only(Overlay *o) {
        o->is_read_only = true;
}

static void no_upper(Overlay *o) {
        o->upper = o->work = NULL;
}

static void upper_elsewhere(Overlay *o) {
        o->upper = o->lower[0];
}

static void upper_missing(Overlay *o) {
        static char path[] = "/nonexistent/upper";

        o->upper = path;
}

static void work_missing(Overlay *o) {
        static char path[] = "/nonexistent/work";

        o->work = path;
}

static void work_elsewhere(Overlay *o) {
        static char path[] = "/proc";

        o->work = path;
}

static void use_xino(Overlay *o) {
        o->xino = TRI_YES;
}

static void other_device(Overlay *o) {
        o->device++;
}

/* What the value says decides, so every value can be tried on one mount. */
static void test_values(void **state) {
        static const struct {
                void (*change)(Overlay *o);
                const char *id;
                CheckLevel level;
                const char *text, *advice;
        } rows[] = {
                { no_metacopy, "metacopy", CHECK_FAIL, "off", "metacopy=on" },
                { unknown_metacopy, "metacopy", CHECK_FAIL, "not known", "metacopy=on" },
                { only_follow, "redirect-dir", CHECK_FAIL, "EXDEV", "redirect_dir=on" },
                { off_but_followed, "redirect-dir", CHECK_FAIL, "EXDEV", "redirect_dir=on" },
                { no_follow, "redirect-dir", CHECK_FAIL, "lose their content", "redirect_dir=on" },
                { use_userxattr, "userxattr", CHECK_FAIL, "userxattr", "without userxattr" },
                { nfs_exported, "nfs-export", CHECK_FAIL, "nfs_export is on", "nfs_export=off" },
                { maybe_nfs_exported, "nfs-export", CHECK_WARNING, "cannot tell", "nfs_export=off" },
                { indexed, "index", CHECK_OK, "hard links survive", NULL },
                { not_indexed, "index", CHECK_OK, "hard links is left out", NULL },
                { require_verity, "verity", CHECK_WARNING, "verity=require", "verity=on" },
                { use_verity, "verity", CHECK_OK, "digest", NULL },
                { no_verity, "verity", CHECK_OK, "off", NULL },
                { be_volatile, "volatile", CHECK_WARNING, "crash", "without volatile" },
                { data_only, "data-layers", CHECK_FAIL, "only data-only", "ordinary" },
                { some_data, "data-layers", CHECK_OK, "2 data-only", NULL },
                { read_only, "read-write", CHECK_FAIL, "read-only", "remount,rw" },
                { no_upper, "upper", CHECK_FAIL, "no upper", "upperdir=" },
                { upper_elsewhere, "upper-path", CHECK_FAIL, "is not the upper layer", "UpperDir=" },
                { upper_missing, "upper-path", CHECK_FAIL, "is not the upper layer", "UpperDir=" },
                { work_missing, "work-path", CHECK_FAIL, "No such file", "try again" },
                { work_elsewhere, "work-path", CHECK_FAIL, "not the work directory", "WorkDir=" },
                { use_xino, "xino", CHECK_OK, "one file system", NULL },
                { other_device, "upper-path", CHECK_FAIL, "another file system", "try again" },
        };
        _cleanup_(overlay_freep) Overlay *o = NULL;

        need_mounts();
        o = mount_good();
        make_text(at("mp/file").s, "the upper's root differs from the lower's");
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                Overlay changed = *o;

                rows[i].change(&changed);
                assert_check(&changed, rows[i].id, rows[i].level, rows[i].text, rows[i].advice);
        }
}

/* What cannot be looked at is left out, not made up. */
static void test_left_out(void **state) {
        static const char *const ids[] = { "read-write", "upper-path", "work-path",       "trusted-xattr",
                                           "d-type",     "tmpfile",    "rename-whiteout", "casefold",
                                           "space",      "inodes",     "second-overlay" };
        _cleanup_(check_list_done) CheckList l = { 0 };
        char options[3 * UNIT_PATH_MAX];
        _cleanup_(overlay_freep) Overlay *o = NULL;

        need_mounts();
        make_directory(at("l").s);
        make_directory(at("m").s);
        make_directory(at("mp").s);
        (void) snprintf(options, sizeof(options), "lowerdir=%s:%s", at("l").s, at("m").s);
        mount_overlay(at("mp").s, options);
        o = load_overlay("mp");
        assert_return_code(overlay_check(o, &l), 0);
        assert_finding(&l, "upper", CHECK_FAIL, "no upper layer", "upperdir=");
        for (size_t i = 0; i < ELEMENTSOF(ids); i++)
                assert_null(check_list_find(&l, ids[i]));
}

/* What fails, as ids in the order of the list. */
static void failed(const Overlay *o, CheckLevel level, char *buffer, size_t size) {
        _cleanup_(check_list_done) CheckList l = { 0 };
        size_t used = 0;

        assert_return_code(overlay_check(o, &l), 0);
        buffer[0] = '\0';
        for (size_t i = 0; i < l.n; i++)
                if (l.items[i].level == level &&
                    strcmp(l.items[i].id, "inotify") != 0) /* says something of the machine */
                        used += (size_t) snprintf(
                                buffer + used, size - used, used > 0 ? " %s" : "%s", l.items[i].id);
}

static Overlay *mount_numbered(size_t i, const char *options) {
        Path lower, upper, work, target;

        /* Names, not paths: what mount_layers() wants. */
        (void) snprintf(lower.s, sizeof(lower.s), "%zu/l", i);
        (void) snprintf(upper.s, sizeof(upper.s), "%zu/u", i);
        (void) snprintf(work.s, sizeof(work.s), "%zu/w", i);
        (void) snprintf(target.s, sizeof(target.s), "%zu/mp", i);
        make_directory(at("%s", lower.s).s);
        /* A file system of its own for the lower, or xino costs nothing. */
        assert_return_code(mount("lower", at("%s", lower.s).s, "tmpfs", 0, NULL), errno);
        mount_layers(lower.s, upper.s, work.s, target.s, options);
        return load_overlay(target.s);
}

static void test_options(void **state) {
        static const struct {
                const char *options, *failures, *warnings;
        } rows[] = {
                { ",metacopy=on,xino=off", "", "" },
                { ",metacopy=on,redirect_dir=on,index=on,xino=off", "", "" },
                { ",metacopy=on,xino=on", "", "xino" },
                { ",metacopy=on,volatile,xino=off", "", "volatile" },
                { ",metacopy=off,redirect_dir=on,xino=off", "metacopy", "" },
                { ",metacopy=off,redirect_dir=follow,xino=off", "metacopy redirect-dir", "" },
                { ",metacopy=off,redirect_dir=nofollow,xino=off", "metacopy redirect-dir", "" },
                { ",userxattr,xino=off", "userxattr metacopy redirect-dir", "" },
                { ",index=on,nfs_export=on,redirect_dir=on,metacopy=off,xino=off", "metacopy nfs-export",
                  "" },
        };

        need_mounts();
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(overlay_freep) Overlay *o = NULL;
                char found[256];

                o = mount_numbered(i, rows[i].options);
                failed(o, CHECK_FAIL, found, sizeof(found));
                assert_string_equal(found, rows[i].failures);
                failed(o, CHECK_WARNING, found, sizeof(found));
                assert_string_equal(found, rows[i].warnings);
        }
}

static void test_read_only(void **state) {
        _cleanup_(overlay_freep) Overlay *o = NULL, *again = NULL;

        need_mounts();
        o = mount_good();
        assert_return_code(mount(NULL, at("mp").s, NULL, MS_REMOUNT | MS_RDONLY, NULL), errno);
        again = load_overlay("mp");
        assert_check(again, "read-write", CHECK_FAIL, "read-only", "remount,rw");
        assert_return_code(mount(NULL, at("mp").s, NULL, MS_REMOUNT, NULL), errno);
        assert_return_code(mount(NULL, at("mp").s, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), errno);
        overlay_free(again);
        again = load_overlay("mp");
        assert_check(again, "read-write", CHECK_FAIL, "read-only", "remount,rw");
}

static void fill(const char *path, size_t size) {
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        assert_return_code(fd, errno);
        assert_int_equal(posix_fallocate(fd, 0, (off_t) size), 0);
}

static void test_space(void **state) {
        _cleanup_(overlay_freep) Overlay *o = NULL;

        need_mounts();
        make_directory(at("s").s);
        assert_return_code(mount("small", at("s").s, "tmpfs", 0, "size=1m,nr_inodes=40"), errno);
        mount_layers("l", "s/u", "s/w", "mp", ",metacopy=on");
        o = load_overlay("mp");
        assert_check(o, "space", CHECK_OK, "% of the space", NULL);
        assert_check(o, "inodes", CHECK_OK, "% of the inodes", NULL);
        fill(at("s/fill").s, 1000 * 1024);
        assert_check(o, "space", CHECK_WARNING, "only", at("s/u").s);
        for (int i = 0; i < 40; i++) {
                int fd = open(at("s/f%d", i).s, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

                if (fd < 0)
                        break;
                (void) close(fd);
        }
        (void) unlink(at("s/f0").s); /* for the probes; one of 40 is 2 % */
        assert_check(o, "inodes", CHECK_WARNING, "only", at("s/u").s);
}

/* Settings of the machine, made up. */
static void test_sources(void **state) {
        static const struct {
                const char *file, *text, *id;
                CheckLevel level;
                const char *say, *advice;
        } rows[] = {
                { "parameters/redirect_max", "256\n", "redirect-max", CHECK_OK, "256; it is raised", NULL },
                { "parameters/redirect_max", "4096\n", "redirect-max", CHECK_OK, "any path", NULL },
                { "proc/sys/fs/inotify/max_user_watches", "100\n", "inotify", CHECK_WARNING,
                  "max_user_watches is 100", "sysctl fs.inotify.max_user_watches=" },
                { "proc/sys/fs/inotify/max_user_watches", "100000\n", "inotify", CHECK_OK, "room", NULL },
                { "proc/sys/fs/inotify/max_user_watches", "nonsense\n", "inotify", CHECK_OK, "room", NULL },
                { "proc/sys/fs/inotify/max_user_instances", "2\n", "inotify", CHECK_WARNING,
                  "max_user_instances", "sysctl" },
                { "proc/sys/fs/inotify/max_user_instances", "1024\n", "inotify", CHECK_OK, "room", NULL },
                { "proc/sys/fs/inotify/max_queued_events", "16\n", "inotify", CHECK_WARNING,
                  "max_queued_events", "sysctl" },
        };
        char *none[] = { NULL };
        Overlay o = { .lower = none, .data = none, .source = no_options, .fs_options = no_options };
        Path proc = at("proc"), parameters = at("parameters"), mount_point = at("mp");
        CheckSources sources = { .proc = proc.s, .parameters = parameters.s };

        o.mount_point = mount_point.s;
        make_directory(at("proc/self").s);
        make_directory(at("proc/sys/fs/inotify").s);
        make_directory(parameters.s);
        make_text(at("proc/self/mountinfo").s, "");
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(check_list_done) CheckList l = { 0 };

                make_text(at("%s", rows[i].file).s, rows[i].text);
                assert_return_code(overlay_check_from(&sources, &o, &l), 0);
                assert_finding(&l, rows[i].id, rows[i].level, rows[i].say, rows[i].advice);
        }
}

/* As in a container, where /sys is read-only. */
static void test_redirect_max_fixed(void **state) {
        CheckSources sources = { .parameters = NULL };
        _cleanup_(check_list_done) CheckList l = { 0 };
        _cleanup_(overlay_freep) Overlay *o = NULL;
        Path parameters;

        need_mounts();
        o = mount_good();
        parameters = at("parameters");
        sources.parameters = parameters.s;
        make_directory(parameters.s);
        assert_return_code(mount("fixed", parameters.s, "tmpfs", 0, NULL), errno);
        make_text(at("parameters/redirect_max").s, "256\n");
        assert_return_code(mount(NULL, parameters.s, NULL, MS_REMOUNT | MS_RDONLY, NULL), errno);
        assert_return_code(overlay_check_from(&sources, o, &l), 0);
        assert_finding(&l, "redirect-max", CHECK_WARNING, "cannot be raised", "redirect_max=4096");
}

static void test_no_table(void **state) {
        Overlay o = { .mount_point = no_options };
        CheckSources sources = { .proc = "/nonexistent" };
        CheckList l;

        assert_int_equal(overlay_check_from(&sources, &o, &l), -ENOENT);
}

/* ramfs has neither xattrs nor RENAME_WHITEOUT; overlayfs would fall back, or refuse it. */
static void test_poor_file_system(void **state) {
        _cleanup_(overlay_freep) Overlay *o = NULL;
        char names[64];
        Overlay changed;
        Path work;

        need_mounts();
        o = mount_good();
        make_directory(at("ram").s);
        assert_return_code(mount("poor", at("ram").s, "ramfs", 0, NULL), errno);
        make_directory(at("ram/work").s);
        work = at("ram");
        changed = *o;
        changed.work = work.s;
        assert_check(&changed, "work-path", CHECK_FAIL, "not the work directory", "WorkDir=");
        assert_check(&changed, "trusted-xattr", CHECK_FAIL, "keeps no trusted xattrs", "ext4");
        assert_check(&changed, "rename-whiteout", CHECK_FAIL, "knows no RENAME_WHITEOUT", "ext4");
        assert_check(&changed, "d-type", CHECK_OK, "types", NULL);
        list_directory(at("ram").s, names, sizeof(names));
        assert_string_equal(names, "work");
}

static void test_no_types(void **state) {
        _cleanup_(overlay_freep) Overlay *o = NULL;

        need_mounts();
        mount_new_fs("mkfs.ext4 -q -O ^filetype");
        mount_layers("l", "fs/u", "fs/w", "mp", ",metacopy=on");
        o = load_overlay("mp");
        assert_check(o, "d-type", CHECK_FAIL, "no types", "filetype");
        assert_check(o, "upper-path", CHECK_OK, "is the upper layer", NULL);
        assert_return_code(umount(at("mp").s), errno);
        assert_return_code(umount(at("fs").s), errno);
}

/* Subvolumes have different device numbers, and still make one overlay. */
static void test_subvolumes(void **state) {
        _cleanup_(overlay_freep) Overlay *o = NULL;
        char command[2 * UNIT_PATH_MAX], found[256];

        need_mounts();
        mount_new_fs("mkfs.btrfs -q");
        (void) snprintf(
                command, sizeof(command), "PATH=$PATH:/usr/sbin; btrfs subvolume create '%s' >&2",
                at("fs/u").s);
        assert_int_equal(system(command), 0);
        mount_layers("l", "fs/u", "fs/w", "mp", ",metacopy=on");
        make_text(at("mp/file").s, "");
        o = load_overlay("mp");
        failed(o, CHECK_FAIL, found, sizeof(found));
        assert_string_equal(found, "");
        assert_return_code(umount(at("mp").s), errno);
        assert_return_code(umount(at("fs").s), errno);
}

/* The advice is a command: doing what it says has to mend the mount. */
static void test_advice(void **state) {
        static const char *const names[] = { "plain",       "sp ace", "co,mma",    "co:lon",
                                             "back\\slash", "it's",   "$(exit 1)", "\\054" };

        need_mounts();
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                _cleanup_(overlay_freep) Overlay *o = NULL, *again = NULL;
                _cleanup_(check_list_done) CheckList l = { 0 }, after = { 0 };
                Path lower = at("%s/l", names[i]), upper = at("%s/u", names[i]), work = at("%s/w", names[i]),
                     target = at("%s/mp", names[i]);
                char *layers[] = { lower.s, NULL }, *none[] = { NULL };
                Overlay made = { .lower = layers, .data = none, .upper = upper.s, .work = work.s };
                _cleanup_free_ char *options = overlay_format_options(&made);
                const Check *c;

                make_directory(lower.s);
                make_directory(upper.s);
                make_directory(work.s);
                make_directory(target.s);
                *strstr(options, ",metacopy=on") = '\0';
                mount_overlay(target.s, options);
                assert_return_code(overlay_load(NULL, target.s, NULL, &o, NULL), 0);
                assert_return_code(overlay_check(o, &l), 0);
                c = check_list_find(&l, "metacopy");
                assert_int_equal(c->level, CHECK_FAIL);
                assert_int_equal(system(strstr(c->advice, ": ") + 2), 0);
                assert_return_code(overlay_load(NULL, target.s, NULL, &again, NULL), 0);
                assert_string_equal(again->upper, upper.s);
                assert_return_code(overlay_check(again, &after), 0);
                assert_finding(&after, "metacopy", CHECK_OK, "on", NULL);
                assert_finding(&after, "redirect-dir", CHECK_OK, "on", NULL);
        }
}

static void test_to_failure(void **state) {
        Check items[] = {
                { .id = "a",
                  .level = CHECK_WARNING,
                  .text = (char *) "doubtful",
                  .advice = (char *) "think" },
                { .id = "b", .level = CHECK_FAIL, .text = (char *) "wrong", .advice = (char *) "mend it" },
                { .id = "c", .level = CHECK_FAIL, .text = (char *) "worse" },
        };
        CheckList l = { .items = items, .n = 1 };
        _cleanup_failure_ Failure f = FAILURE_INIT;
        Overlay o = { .mount_point = (char *) "/ovl" };

        assert_return_code(check_list_to_failure(&l, &o, &f), 0);
        l.n = 3;
        assert_int_equal(check_list_to_failure(&l, &o, &f), -EOPNOTSUPP);
        assert_int_equal(f.kind, FAILURE_PRECONDITION);
        assert_contains(f.message, "'/ovl'");
        assert_contains(f.message, "wrong; mend it");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                unit_test_scratch(test_good),      unit_test_scratch(test_values),
                unit_test_scratch(test_left_out),  unit_test_scratch(test_options),
                unit_test_scratch(test_read_only), unit_test_scratch(test_space),
                unit_test_scratch(test_sources),   unit_test_scratch(test_redirect_max_fixed),
                cmocka_unit_test(test_no_table),   unit_test_scratch(test_poor_file_system),
                unit_test_scratch(test_no_types),  unit_test_scratch(test_subvolumes),
                unit_test_scratch(test_advice),    cmocka_unit_test(test_to_failure),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
