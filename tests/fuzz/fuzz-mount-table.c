/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Any text as a mount table: what it says can be asked for, and every question has an end. */
#include <string.h>

#include "base/path-util.h"
#include "core/mount/mount-table.h"
#include "core/mount/overlay.h"
#include "fuzz.h"

static void check_options(const char *options) {
        static const char *const keys[] = { "lowerdir", "lowerdir+", "upperdir", "workdir", "metacopy" };

        for (size_t i = 0; i < ELEMENTSOF(keys); i++) {
                const char *at = NULL;
                size_t n = 0;
                int r = 1;

                while (r > 0) {
                        _cleanup_free_ char *value = NULL;

                        r = mount_options_next(options, keys[i], &at, &value);
                        HOLDS(r <= 0 || value);
                        if (r > 0 && n++ == 0)
                                HOLDS(mount_options_have(options, keys[i]));
                        if (value)
                                mount_option_unescape(value);
                }
                HOLDS(n <= strlen(options));
                HOLDS(n > 0 || !mount_options_have(options, keys[i]));
        }
}

static void check_entry(const MountTable *t, const MountEntry *e) {
        const MountEntry *reached;

        HOLDS(e->root && e->target && e->type && e->source && e->vfs_options && e->propagation &&
              e->fs_options);
        HOLDS(!strchr(e->fs_options, ' ') && !strchr(e->fs_options, '\n'));
        HOLDS(mount_table_find(t, e->id));
        reached = mount_table_reach(t, e->target);
        HOLDS(!reached || path_startswith(e->target, reached->target));
        check_options(e->fs_options);
}

static void check_overlay(const char *file, const MountEntry *e) {
        _cleanup_(overlay_freep) Overlay *o = NULL;
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        int r = overlay_load(
                &(OverlaySources){ .mountinfo = file, .parameters = "/nowhere" }, e->target, NULL, &o,
                &failure);

        HOLDS(r >= 0 ? o != NULL : o == NULL);
        if (r < 0)
                return;
        HOLDS(o->mount_point && o->lower && o->data && (!o->upper || o->work));
        for (size_t i = 0; i < o->n_lower; i++)
                HOLDS(o->lower[i][0] == '/');
        HOLDS(!o->lower[o->n_lower] && !o->data[o->n_data]);
        {
                _cleanup_free_ char *options = overlay_format_options(o);

                HOLDS(options);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        const char *file = fuzz_file(data, size);
        MountTable t;

        if (mount_table_read(file, &t) < 0)
                return 0;
        for (size_t i = 0; i < t.n; i++) {
                check_entry(&t, t.items + i);
                if (i < 4)
                        check_overlay(file, t.items + i);
        }
        mount_table_done(&t);
        return 0;
}
