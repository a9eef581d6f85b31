/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>
#include <unistd.h>

#include "base/states.h"
#include "base/strv.h"
#include "config/config-file.h"
#include "config/config.h"
#include "unit.h"

typedef struct Folders {
        Path etc, run, lib;
        char *list[4];
} Folders;

static Folders *folders(void) {
        static Folders f;

        f.etc = at("etc");
        f.run = at("run");
        f.lib = at("lib");
        f.list[0] = f.etc.s;
        f.list[1] = f.run.s;
        f.list[2] = f.lib.s;
        return &f;
}

static Config *load(const Config *previous) {
        Config *c;

        assert_int_equal(config_load(folders()->list, previous, &c), 0);
        return c;
}

static void write_overlay(const char *folder, const char *name, const char *text) {
        make_text(at("%s/overlays.d/%s.conf", folder, name).s, text);
}

static void make_folders(void) {
        static const char *const names[] = { "etc", "run", "lib" };

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                make_directory(at("%s/overlays.d", names[i]).s);
                make_directory(at("%s/ovlfind.conf.d", names[i]).s);
        }
}

static void test_nothing_configured(void **state) {
        _cleanup_(config_freep) Config *c = load(NULL);

        assert_int_equal(c->n_overlays, 0);
        assert_int_equal(c->n_warnings, 0);
}

static void test_defaults(void **state) {
        _cleanup_(config_freep) Config *c = NULL;
        const OverlayConfig *o;

        make_folders();
        write_overlay("etc", "software", "[Overlay]\nMountPoint=//ovl/./x/ \n");
        c = load(NULL);
        assert_int_equal(c->n_warnings, 0);
        assert_int_equal(c->n_overlays, 1);
        o = config_find(c, "software");
        assert_non_null(o);
        assert_null(config_find(c, "other"));
        assert_string_equal(o->mount_point, "/ovl/x");
        assert_null(o->lower);
        assert_int_equal(o->settings.quiet_usec, 2 * USEC_PER_SEC);
        assert_int_equal(settings_worker_threads(&o->settings), 32);
        assert_int_equal(o->settings.hard_links, HARD_LINKS_SKIP);
        assert_true(o->settings.is_automatic);
        assert_int_equal(o->settings.randomized_delay_usec, 0);
        assert_true(o->settings.min_free_space.is_percent);
}

/* Every key of the interface with a value that is not the default. */
static void test_all_keys(void **state) {
        _cleanup_(config_freep) Config *c = NULL;
        const Settings *s;

        make_folders();
        write_overlay(
                "etc", "a",
                "[Overlay]\nMountPoint=/a\nLowerDir=/l1:/l2\nUpperDir=/u\nWorkDir=/w\n"
                "[Watch]\nDirectories=a/* b/**\nDirectories=c\nExclude=tmp/**\nSources=paths "
                "misses\nSearchVariables=*_PATH MINE\nHotMisses=4\nHotOpens=3\nHotWindowSec=1h "
                "30min\n"
                "MaxWatches=9\n"
                "[CopyUp]\nWorkers=4\nMaxWorkers=8\nEntriesPerSecond=100\nData=1M\nHardLinks="
                "break\nMinFreeSpace=2G\n"
                "MinFreeInodes=7%\nSchedule=Mon..Fri *-*-* 20:00..06:00\n"
                "[Finalize]\nAutomatic=no\nRandomizedDelaySec=2h\nUnit=*/"
                "*\nScheme=redirect\nMethod=exchange\nQuietSec=500ms\nStanding="
                "wait\nParents=yes\n"
                "OnLowerChange=keep\nOnLowerRemoved=keep\n"
                "[Remount]\nOptions=metacopy=on,redirect_dir=on\nBlockers=ignore\n");
        c = load(NULL);
        assert_int_equal(c->n_warnings, 0);
        assert_string_equal(c->overlays[0]->lower, "/l1:/l2");
        assert_string_equal(c->overlays[0]->upper, "/u");
        assert_string_equal(c->overlays[0]->work, "/w");
        s = &c->overlays[0]->settings;
        assert_int_equal(strv_length(s->directories), 3);
        assert_string_equal(s->directories[2], "c");
        assert_string_equal(s->exclude[0], "tmp/**");
        assert_int_equal(s->sources, 1 << SOURCE_PATHS | 1 << SOURCE_MISSES);
        assert_string_equal(s->search_variables[1], "MINE");
        assert_string_equal(s->unit[0], "*/*");
        assert_int_equal(s->hot_misses, 4);
        assert_int_equal(s->hot_opens, 3);
        assert_int_equal(s->hot_window_usec, 5400 * USEC_PER_SEC);
        assert_int_equal(s->max_watches, 9);
        assert_int_equal(settings_worker_threads(s), 4);
        assert_int_equal(s->entries_per_second, 100);
        assert_int_equal(s->data_max_bytes, 1 << 20);
        assert_int_equal(s->hard_links, HARD_LINKS_BREAK);
        assert_false(s->min_free_space.is_percent);
        assert_int_equal(s->min_free_space.value, UINT64_C(2) << 30);
        assert_int_equal(s->min_free_inodes.value, 7);
        assert_string_equal(s->schedule, "Mon..Fri *-*-* 20:00..06:00");
        assert_false(s->is_automatic);
        assert_int_equal(s->randomized_delay_usec, 7200 * USEC_PER_SEC);
        assert_int_equal(s->scheme, SCHEME_REDIRECT);
        assert_int_equal(s->method, METHOD_EXCHANGE);
        assert_int_equal(s->quiet_usec, 500 * USEC_PER_MSEC);
        assert_int_equal(s->standing, STANDING_WAIT);
        assert_true(s->want_parents);
        assert_int_equal(s->on_lower_change, 0);
        assert_int_equal(s->on_lower_removed, 0);
        assert_string_equal(s->remount_options, "metacopy=on,redirect_dir=on");
        assert_int_equal(s->remount_blockers, 1);
}

static void test_bad_values_keep_the_default(void **state) {
        static const char *const bad[] = {
                "[Finalize]\nQuietSec=soon",
                "[Finalize]\nRandomizedDelaySec=infinity",
                "[Finalize]\nQuietSec=-1",
                "[Finalize]\nStanding=maybe",
                "[Finalize]\nAutomatic=perhaps",
                "[CopyUp]\nWorkers=0",
                "[CopyUp]\nWorkers=257",
                "[CopyUp]\nMaxWorkers=auto",
                "[CopyUp]\nData=yes",
                "[CopyUp]\nMinFreeSpace=101%",
                "[CopyUp]\nSchedule=nights",
                "[CopyUp]\nSchedule=25:00..6:00",
                "[Watch]\nHotOpens=many",
                "[Watch]\nSources=opens smells",
                "[Watch]\nSources=",
                "[Watch]\nHotOpens=18446744073709551616",
                "[Finalize]\nQuietSec=9999999999999999999min",
                "[Overlay]\nUpperDir=relative",
                "[Overlay]\nWorkDir=/a/../b",
                "[Finalize]\nQuietSec=1parsec",
                "[Odd]\nKey=1",
                "[Finalize]\nOdd=1",
                "[Finalize]\ngarbage",
                "[Finalize\nQuietSec=2s",
                "[Finalize]\nBad Key=1",
        };

        make_folders();
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_(config_freep) Config *c = NULL;
                _cleanup_free_ char *text = NULL;
                const Settings *s;

                assert_true(asprintf(&text, "[Overlay]\nMountPoint=/a\n%s\n", bad[i]) > 0);
                write_overlay("etc", "a", text);
                c = load(NULL);
                assert_int_equal(c->n_overlays, 1);
                assert_true(c->n_warnings >= 1);
                s = &c->overlays[0]->settings;
                assert_int_equal(s->quiet_usec, 2 * USEC_PER_SEC);
                assert_int_equal(s->max_workers, 32);
                assert_int_equal(s->workers, 0);
                assert_int_equal(s->hot_opens, 20);
                assert_null(c->overlays[0]->upper);
                assert_null(c->overlays[0]->work);
        }
}

static void test_layers_of_defaults(void **state) {
        _cleanup_(config_freep) Config *c = NULL;

        make_folders();
        make_text(at("lib/ovlfind.conf").s, "[Finalize]\nQuietSec=9s\nStanding=wait\n");
        make_text(at("run/ovlfind.conf").s, "[Finalize]\nQuietSec=8s\n"); /* hides the one of lib */
        make_text(at("lib/ovlfind.conf.d/10-a.conf").s, "[CopyUp]\nMaxWorkers=10\n");
        make_text(at("etc/ovlfind.conf.d/20-b.conf").s, "[CopyUp]\nMaxWorkers=20\n");
        make_text(at("lib/ovlfind.conf.d/30-c.conf").s, "[CopyUp]\nMaxWorkers=30\n");
        assert_int_equal(symlink("/dev/null", at("etc/ovlfind.conf.d/30-c.conf").s), 0); /* masked */
        write_overlay("lib", "one", "[Overlay]\nMountPoint=/one\n");
        write_overlay("lib", "two", "[Overlay]\nMountPoint=/old\n");
        write_overlay("etc", "two", "[Overlay]\nMountPoint=/two\n[CopyUp]\nMaxWorkers=2\n");
        write_overlay("lib", "three", "[Overlay]\nMountPoint=/three\n");
        write_overlay("run", "three", ""); /* masked too */
        c = load(NULL);
        assert_int_equal(c->n_warnings, 0);
        assert_int_equal(c->n_overlays, 2);
        assert_string_equal(c->overlays[0]->name, "one");
        assert_int_equal(c->overlays[0]->settings.quiet_usec, 8 * USEC_PER_SEC);
        assert_int_equal(c->overlays[0]->settings.standing, STANDING_AUTO);
        assert_int_equal(c->overlays[0]->settings.max_workers, 20);
        assert_string_equal(c->overlays[1]->mount_point, "/two");
        assert_int_equal(c->overlays[1]->settings.max_workers, 2);
}

static void test_names_and_mount_points(void **state) {
        _cleanup_(config_freep) Config *c = NULL;

        make_folders();
        write_overlay("etc", "a", "[Overlay]\nMountPoint=/same\n");
        write_overlay("etc", "b", "[Overlay]\nMountPoint=/same/\n");
        write_overlay("etc", "c", "[Overlay]\nMountPoint=relative\n");
        write_overlay("etc", "d", "[Watch]\nHotOpens=1\n");
        write_overlay("etc", "sp ace", "[Overlay]\nMountPoint=/e\n");
        make_text(at("etc/overlays.d/readme").s, "not ours\n");
        make_text(at("etc/overlays.d/.hidden.conf").s, "[Overlay]\nMountPoint=/f\n");
        make_text(at("etc/ovlfind.conf").s, "[Overlay]\nMountPoint=/g\n");
        c = load(NULL);
        assert_int_equal(c->n_overlays, 1);
        assert_string_equal(c->overlays[0]->name, "a");
        assert_int_equal(c->n_warnings, 6); /* b, c twice, d, "sp ace", [Overlay] in ovlfind.conf */
}

static void test_reload_keeps_what_cannot_be_replaced(void **state) {
        _cleanup_(config_freep) Config *first = NULL, *second = NULL;

        make_folders();
        write_overlay("etc", "a", "[Overlay]\nMountPoint=/a\n");
        write_overlay("etc", "b", "[Overlay]\nMountPoint=/b\n");
        first = load(NULL);
        write_overlay("etc", "a", "[Overlay]\nMountPoint=nonsense\n");
        assert_int_equal(unlink(at("etc/overlays.d/b.conf").s), 0);
        second = load(first);
        assert_int_equal(second->n_overlays, 1);
        assert_ptr_equal(second->overlays[0], first->overlays[0]);
        first = config_free(first);
        assert_string_equal(second->overlays[0]->mount_point, "/a");
}

static void test_same_mount(void **state) {
        _cleanup_(config_freep) Config *c = NULL, *d = NULL;

        make_folders();
        write_overlay("etc", "a", "[Overlay]\nMountPoint=/a\nUpperDir=/u\n");
        c = load(NULL);
        write_overlay("etc", "a", "[Overlay]\nMountPoint=/a\nUpperDir=/u\n[Finalize]\nQuietSec=1s\n");
        d = load(c);
        assert_true(overlay_config_same_mount(c->overlays[0], d->overlays[0]));
        d = config_free(d);
        write_overlay("etc", "a", "[Overlay]\nMountPoint=/a\n");
        d = load(c);
        assert_false(overlay_config_same_mount(c->overlays[0], d->overlays[0]));
}

/* Syntax. */

typedef struct Lines {
        char text[4096];
} Lines;

static void collect(const ConfigLine *l, void *userdata) {
        Lines *lines = userdata;
        size_t n = strlen(lines->text);

        (void) snprintf(
                lines->text + n, sizeof(lines->text) - n, "%u:%s:%s:%s\n", l->line, l->section,
                l->key ?: "?", l->value);
}

static void assert_parses(const char *text, const char *expected) {
        Path p = at("file");
        Lines lines = { "" };

        make_text(p.s, text);
        assert_int_equal(config_file_parse(p.s, collect, &lines), 0);
        assert_string_equal(lines.text, expected);
}

static void test_syntax(void **state) {
        assert_parses("", "");
        assert_parses("[A]\nx=1\ny = 2 \n", "2:A:x:1\n3:A:y:2\n");
        assert_parses("\xef\xbb\xbf[A]\nx=1", "2:A:x:1\n");
        assert_parses("[A]\r\nx=1\r\n", "2:A:x:1\n");
        assert_parses("[A]\n# c\n; c\n  # c\n  x=1\n", "5:A:x:1\n");
        assert_parses("[A]\nx=1 # c\ny=a#b;c ;d\nz=#e\n", "2:A:x:1\n3:A:y:a#b;c ;d\n4:A:z:#e\n");
        assert_parses("[A]\nx=a\\\n  b\\\nc\ny=1\n", "2:A:x:a   b c\n5:A:y:1\n");
        assert_parses("[A]\nx=\nx=1\nx=2\n", "2:A:x:\n3:A:x:1\n4:A:x:2\n");
        assert_parses("[A]\nx=a=b:c\n", "2:A:x:a=b:c\n");
        assert_parses("x=1\n[A]\n", "1::x:1\n");
        assert_parses(
                "[A]\nnonsense\n=1\na:b=1\n[B\nx=1\n", "2::?:nonsense\n3::?:\n4::?:a:b\n5::?:[B\n6:A:x:1\n");
}

/* Longer than any buffer of inih. */
static void test_long_values(void **state) {
        _cleanup_free_ char *value = malloc(3001), *text = NULL, *expected = NULL;

        assert_non_null(value);
        memset(value, 'v', 3000);
        value[3000] = '\0';
        assert_true(asprintf(&text, "[A]\nx=%s\n", value) > 0);
        assert_true(asprintf(&expected, "2:A:x:%s\n", value) > 0);
        assert_parses(text, expected);
}

static void test_no_file(void **state) {
        assert_int_equal(config_file_parse(at("nothing").s, collect, NULL), -ENOENT);
}

/* Values. */

static void test_timespans(void **state) {
        static const struct {
                const char *text;
                uint64_t usec;
        } good[] = {
                { "0", 0 },
                { "5", 5 * USEC_PER_SEC },
                { "1.5s", 1500 * USEC_PER_MSEC },
                { "0.25", 250 * USEC_PER_MSEC },
                { "2min 3s", 123 * USEC_PER_SEC },
                { "1h30min", 5400 * USEC_PER_SEC },
                { "10 ms", 10 * USEC_PER_MSEC },
                { "3us", 3 },
                { "1w", 604800 * USEC_PER_SEC },
                { "infinity", USEC_INFINITY },
        };
        static const char *const bad[] = {
                "", " ", "s", "1.", ".5", "1.s", "1x", "-1", "1s,2s", "inf", "18446744073709551615s"
        };
        uint64_t usec;

        for (size_t i = 0; i < ELEMENTSOF(good); i++) {
                assert_int_equal(value_parse_timespan(good[i].text, &usec), 0);
                assert_int_equal(usec, good[i].usec);
        }
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_true(value_parse_timespan(bad[i], &usec) < 0);
}

static void test_sizes_and_amounts(void **state) {
        uint64_t size;
        Amount a;

        assert_int_equal(value_parse_size("1.5K", &size), 0);
        assert_int_equal(size, 1536);
        assert_int_equal(value_parse_size("3T", &size), 0);
        assert_int_equal(size, UINT64_C(3) << 40);
        assert_true(value_parse_size("1K 2K", &size) < 0);
        assert_true(value_parse_size("1k", &size) < 0);
        assert_true(value_parse_size("99999999999T", &size) == -ERANGE);
        assert_int_equal(value_parse_amount("0%", &a), 0);
        assert_true(a.is_percent && a.value == 0);
        assert_int_equal(value_parse_amount("100%", &a), 0);
        assert_true(value_parse_amount("%", &a) < 0);
        assert_true(value_parse_amount("1.5%", &a) < 0);
        assert_int_equal(value_parse_amount("10M", &a), 0);
        assert_true(!a.is_percent && a.value == 10 << 20);
}

static void test_folders(void **state) {
        _cleanup_strv_free_ char **own = NULL, **system = NULL;

        assert_int_equal(setenv("CONFIGURATION_DIRECTORY", "/some/where:/else", 1), 0);
        assert_int_equal(config_folders(&own), 0);
        assert_int_equal(strv_length(own), 1);
        assert_string_equal(own[0], "/some/where");
        assert_int_equal(setenv("CONFIGURATION_DIRECTORY", "/etc/ovlfind", 1), 0);
        assert_int_equal(config_folders(&system), 0);
        assert_int_equal(strv_length(system), 3);
        assert_string_equal(system[2], "/usr/lib/ovlfind");
        (void) unsetenv("CONFIGURATION_DIRECTORY");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                unit_test_scratch(test_nothing_configured),
                unit_test_scratch(test_defaults),
                unit_test_scratch(test_all_keys),
                unit_test_scratch(test_bad_values_keep_the_default),
                unit_test_scratch(test_layers_of_defaults),
                unit_test_scratch(test_names_and_mount_points),
                unit_test_scratch(test_reload_keeps_what_cannot_be_replaced),
                unit_test_scratch(test_same_mount),
                unit_test_scratch(test_syntax),
                unit_test_scratch(test_long_values),
                unit_test_scratch(test_no_file),
                cmocka_unit_test(test_timespans),
                cmocka_unit_test(test_sizes_and_amounts),
                cmocka_unit_test(test_folders),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
