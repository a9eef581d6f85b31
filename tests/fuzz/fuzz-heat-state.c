/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The saved heat of directories, of any bytes: refused and moved aside, or numbers that can be counted with;
 * saved again, no directory is lost that is worth it. */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"
#include "overlays/heat-state.h"
#include "service/state-file.h"

#define NOW (UINT64_C(1) << 50)

typedef struct Loaded {
        HeatTable *table;
        bool is_again; /* all of it is one overlay's */
} Loaded;

static void take(const SavedHeat *s, void *userdata) {
        const Loaded *l = userdata;

        HOLDS(s->overlay && s->path && s->opens >= 0 && isfinite(s->opens) && s->misses >= 0 &&
              isfinite(s->misses));
        HOLDS(!l->is_again || strcmp(s->overlay, "one two%") == 0);
        HOLDS(heat_table_restore(l->table, s->path, s->opens, s->misses, s->n_opens, s->usec) == 0);
}

static int check_entry(const HeatEntry *e, void *userdata) {
        HOLDS(isfinite(e->heat) && e->heat >= 0 && isfinite(e->open_rate));
        return 0;
}

typedef struct Search {
        const HeatTable *in;
        uint64_t window_usec;
} Search;

static int find(const HeatEntry *e, void *userdata) {
        const Search *s = userdata;
        HeatEntry found;

        if (e->heat * 1000 < 1)
                return -ECANCELED;
        HOLDS(heat_table_get(s->in, e->path, NOW, s->window_usec, &found) == 1);
        HOLDS(found.n_opens == e->n_opens);
        HOLDS(e->heat > 1e14 || fabs(found.heat - e->heat) <= 0.002 + e->heat * 1e-9);
        return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        OverlayConfig config = { .name = (char *) "one two%", .settings.hot_window_usec = USEC_INFINITY };
        _cleanup_(heat_table_freep) HeatTable *table = heat_table_new(), *again = heat_table_new();
        Managed overlay = { .config = &config, .heat = table };
        _cleanup_free_ char *text = NULL;
        Managed *list = &overlay;
        int dfd = fuzz_dir(), r;

        HOLDS(table && again);
        fuzz_write(HEAT_FILE_NAME, data, size);
        r = heat_state_load(fuzz_dir_path(), take, &(Loaded){ .table = table });
        HOLDS(r == 0 || r == -EBADMSG);
        HOLDS((faccessat(dfd, HEAT_FILE_NAME ".bad", F_OK, 0) == 0) == (r < 0));
        (void) heat_table_foreach(table, 0, NOW, 600 * USEC_PER_SEC, check_entry, NULL);
        text = heat_state_format(&list, 1, NOW);
        HOLDS(text && state_file_replace(fuzz_dir_path(), HEAT_FILE_NAME, text) == 0);
        HOLDS(heat_state_load(fuzz_dir_path(), take, &(Loaded){ .table = again, .is_again = true }) == 0);
        (void) heat_table_foreach(
                table, 0, NOW, USEC_INFINITY, find, &(Search){ .in = again, .window_usec = USEC_INFINITY });
        heat_table_trim(table, 1, NOW, 600 * USEC_PER_SEC);
        return 0;
}
