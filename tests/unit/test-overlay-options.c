/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <string.h>

#include "core/mount/overlay-options.h"
#include "core/remount/workdir.h"

static char *lower[] = { (char *) "/l", NULL }, *none[] = { NULL };

/* As overlay_load() makes it, of a mount with these options. */
static Overlay overlay(const char *options) {
        return (Overlay){
                .mount_point = (char *) "/ovl",
                .lower = lower,
                .n_lower = 1,
                .data = none,
                .upper = (char *) "/u",
                .work = (char *) "/w",
                .fs_options = (char *) options,
                .vfs_options = (char *) "rw,relatime",
                .redirect = REDIRECT_OFF,
        };
}

static const char *value_of(const OverlayOptions *l, const char *key) {
        for (size_t i = 0; i < l->n; i++)
                if (strcmp(l->items[i].key, key) == 0)
                        return l->items[i].value ?: "(flag)";
        return NULL;
}

static void test_carry(void **state) {
        static const char options[] = "rw,seclabel,lowerdir=/l,upperdir=/u,workdir=/"
                                      "w,uuid=on,dirsync,context=\"system_u:object_r:a_t:s0\"";
        _cleanup_(overlay_options_done) OverlayOptions l = { 0 };
        _cleanup_failure_ Failure f = FAILURE_INIT;
        Overlay o = overlay(options);

        assert_int_equal(overlay_options_carry(&o, "metacopy=on,redirect_dir=on", &l, &f), 0);
        assert_string_equal(value_of(&l, "metacopy"), "on");
        assert_string_equal(value_of(&l, "redirect_dir"), "on");
        assert_string_equal(value_of(&l, "index"), "off"); /* not shown, a default that can be changed */
        assert_string_equal(value_of(&l, "uuid"), "on");
        assert_string_equal(value_of(&l, "dirsync"), "(flag)");
        assert_string_equal(value_of(&l, "context"), "system_u:object_r:a_t:s0");
        assert_null(value_of(&l, "seclabel"));
        assert_null(value_of(&l, "workdir"));
}

static void test_refused(void **state) {
        static const struct {
                const char *options, *set, *says;
        } rows[] = {
                { "rw,lowerdir=/l,frobnicate=1", NULL, "frobnicate" },
                { "rw,lowerdir=/l,override_creds", NULL, "override_creds" },
                { "rw,lowerdir=/l", "metacopy=on", "redirect_dir=on" },
                { "rw,lowerdir=/l,userxattr", "metacopy=on,redirect_dir=on", "userxattr" },
                { "rw,lowerdir=/l", "lowerdir=/other", "cannot be set" },
                { "rw,lowerdir=/l", "volatile", "cannot be set" },
                { "rw,lowerdir=/l", "metacopy", "cannot be set" },
                { "rw,lowerdir=/l", "metacopy=", "cannot be set" },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(overlay_options_done) OverlayOptions l = { 0 };
                _cleanup_failure_ Failure f = FAILURE_INIT;
                Overlay o = overlay(rows[i].options);

                assert_true(overlay_options_carry(&o, rows[i].set, &l, &f) < 0);
                assert_non_null(strstr(f.message, rows[i].says));
        }
}

static void test_refused_features(void **state) {
        Overlay rows[] = { overlay("rw"), overlay("rw"), overlay("rw"), overlay("rw"), overlay("rw") };

        rows[0].index = TRI_YES;
        rows[1].index = TRI_UNKNOWN;
        rows[2].nfs_export = TRI_YES;
        rows[3].is_volatile = true;
        rows[4].is_read_only = true;
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(overlay_options_done) OverlayOptions l = { 0 };
                _cleanup_failure_ Failure f = FAILURE_INIT;

                assert_true(overlay_options_carry(&rows[i], NULL, &l, &f) < 0);
                assert_int_equal(f.kind, FAILURE_PRECONDITION);
        }
}

static void test_verify(void **state) {
        Overlay old = overlay("rw,lowerdir=/l"), new = overlay("rw,lowerdir=/l,uuid=on"), other;
        _cleanup_(overlay_options_done) OverlayOptions l = { 0 };
        _cleanup_failure_ Failure f = FAILURE_INIT, g = FAILURE_INIT, h = FAILURE_INIT;

        assert_int_equal(overlay_options_carry(&old, "metacopy=on,redirect_dir=on", &l, &f), 0);
        assert_int_equal(overlay_options_verify(&old, &new, &l, &f), -EUCLEAN);
        new.metacopy = TRI_YES;
        new.redirect = REDIRECT_ON;
        assert_int_equal(overlay_options_verify(&old, &new, &l, &g), 0);
        other = new;
        other.upper = (char *) "/elsewhere";
        assert_int_equal(overlay_options_verify(&old, &other, &l, &g), -EUCLEAN);
        other = new;
        other.vfs_options = (char *) "rw,nosuid,relatime";
        assert_int_equal(overlay_options_verify(&old, &other, &l, &h), -EUCLEAN);
        assert_int_equal(overlay_has_options(&new, "metacopy=on,redirect_dir=on", NULL), 1);
        assert_int_equal(overlay_has_options(&old, "metacopy=on,redirect_dir=on", NULL), 0);
}

static void test_successors(void **state) {
        Overlay a = overlay("rw"), b = overlay("rw");

        assert_false(overlay_is_successor(&a, &b));
        b.work = (char *) "/w.ovlfind-0123456789abcdef";
        assert_true(overlay_is_successor(&a, &b));
        a.work = (char *) "/w.ovlfind-fedcba9876543210";
        assert_true(overlay_is_successor(&a, &b));
        b.work = (char *) "/w2.ovlfind-0123456789abcdef";
        assert_false(overlay_is_successor(&a, &b));
        b.work = (char *) "/w.ovlfind-0123456789abcdeX";
        assert_false(overlay_is_successor(&a, &b));
        b.work = (char *) "/w.ovlfind-0123456789abcdef";
        b.upper = (char *) "/u2";
        assert_false(overlay_is_successor(&a, &b));
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_carry),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_refused_features),
                cmocka_unit_test(test_verify),
                cmocka_unit_test(test_successors),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
