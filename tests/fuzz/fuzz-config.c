/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Configuration files of any bytes: the daemon starts with what can be understood, and every value is one
 * that the rest can work with. Input: ovlfind.conf, then files of overlays, each ended by NUL. */
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include "base/glob.h"
#include "base/path-util.h"
#include "base/strv.h"
#include "config/config.h"
#include "config/schedule.h"
#include "fuzz.h"
#include "service/log.h"

static void check_globs(char *const *patterns) {
        _cleanup_(globs_done) Globs g = { 0 };

        HOLDS(globs_new(patterns, &g) == 0);
}

static void check_path(const char *path) {
        _cleanup_free_ char *copy = path ? strdup(path) : NULL;

        HOLDS(!path || (path[0] == '/' && path_simplify(copy) == 0 && strcmp(copy, path) == 0));
}

static void check_settings(const Settings *s) {
        unsigned threads = settings_worker_threads(s);

        HOLDS(threads >= 1 && threads <= 256);
        check_globs(s->directories);
        check_globs(s->exclude);
        HOLDS(!s->schedule || schedule_check(s->schedule) == 0);
        HOLDS(hard_links_to_string(s->hard_links));
        HOLDS(!s->min_free_space.is_percent || s->min_free_space.value <= 100);
        HOLDS(!s->min_free_inodes.is_percent || s->min_free_inodes.value <= 100);
}

static void check_overlay(const Config *c, const OverlayConfig *o) {
        check_path(o->mount_point);
        check_path(o->upper);
        check_path(o->work);
        HOLDS(o->mount_point);
        check_settings(&o->settings);
        for (size_t i = 0; i < c->n_overlays; i++)
                HOLDS(c->overlays[i] == o || strcmp(c->overlays[i]->mount_point, o->mount_point) != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(config_freep) Config *c = NULL, *again = NULL;
        Input in = input_begin(data, size);
        int dfd = fuzz_dir();
        char *folders[] = { (char *) fuzz_dir_path(), NULL };
        _cleanup_free_ char *main_file = input_string(&in);

        log_set_max_level(LOG_EMERG);
        HOLDS(mkdirat(dfd, "overlays.d", 0700) >= 0);
        fuzz_write("ovlfind.conf", main_file, strlen(main_file));
        for (unsigned i = 0; i < 3 && (i == 0 || !input_is_empty(&in)); i++) {
                _cleanup_free_ char *text = input_string(&in);
                char name[32];

                (void) snprintf(name, sizeof(name), "overlays.d/o%u.conf", i);
                fuzz_write(name, text, strlen(text));
        }
        HOLDS(config_load(folders, NULL, &c) == 0);
        for (size_t i = 0; i < c->n_overlays; i++)
                check_overlay(c, c->overlays[i]);
        /* Nothing depends on what was there before when all can be read. */
        HOLDS(config_load(folders, c, &again) == 0);
        HOLDS(again->n_overlays == c->n_overlays && again->n_warnings == c->n_warnings);
        return 0;
}
