/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "check-fixture.h"

#include <string.h>

void mount_layers(
        const char *lower, const char *upper, const char *work, const char *target, const char *more) {
        char options[4 * UNIT_PATH_MAX];

        make_directory(at("%s/d", lower).s);
        make_directory(at("%s", upper).s);
        make_directory(at("%s", work).s);
        make_directory(at("%s", target).s);
        (void) snprintf(
                options, sizeof(options), "lowerdir=%s,upperdir=%s,workdir=%s%s", at("%s", lower).s,
                at("%s", upper).s, at("%s", work).s, more);
        mount_overlay(at("%s", target).s, options);
}

Overlay *load_overlay(const char *target) {
        Failure f = FAILURE_INIT;
        Overlay *o = NULL;

        if (overlay_load(NULL, at("%s", target).s, NULL, &o, &f) < 0)
                fail_msg("%s", f.message);
        return o;
}

Overlay *mount_good(void) {
        mount_layers("l", "u", "w", "mp", ",metacopy=on,redirect_dir=on");
        return load_overlay("mp");
}

void assert_finding(
        const CheckList *l, const char *id, CheckLevel level, const char *text, const char *advice) {
        const Check *c = check_list_find(l, id);

        if (!c)
                fail_msg("no finding '%s'", id);
        if (c->level != level)
                fail_msg("%s: %s: %s", id, check_level_to_string(c->level), c->text);
        assert_contains(c->text, text);
        assert_int_equal(c->advice != NULL, level != CHECK_OK);
        if (level != CHECK_OK)
                assert_contains(c->advice, advice);
}

void assert_check(const Overlay *o, const char *id, CheckLevel level, const char *text, const char *advice) {
        _cleanup_(check_list_done) CheckList l = { 0 };

        assert_return_code(overlay_check(o, &l), 0);
        assert_finding(&l, id, level, text, advice);
}
