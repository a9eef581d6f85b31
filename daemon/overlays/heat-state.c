/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "overlays/heat-state.h"

#include <math.h>
#include <string.h>

#include "service/state-file.h"

#define HEADER "ovlfind-heat 2" /* the version of the format */
#define SCALE 1000.0            /* numbers in the file are whole */
#define MOST 1e18               /* and have to be what can be read again */

typedef struct Save {
        FILE *f;
        const char *overlay;
        uint64_t now_usec;
} Save;

static int write_entry(const HeatEntry *e, void *userdata) {
        const Save *s = userdata;

        if (e->heat * SCALE < 1)
                return -ECANCELED; /* all that follow are colder */
        (void) fprintf(
                s->f, "%llu %llu %llu %llu ", (unsigned long long) fmin(e->opens * SCALE, MOST),
                (unsigned long long) fmin(e->misses * SCALE, MOST), (unsigned long long) e->n_opens,
                (unsigned long long) s->now_usec);
        state_file_write_field(s->f, s->overlay);
        (void) fputc(' ', s->f);
        state_file_write_field(s->f, e->path);
        (void) fputc('\n', s->f);
        return 0;
}

char *heat_state_format(Managed *const *overlays, size_t n_overlays, uint64_t now_usec) {
        StateText t;
        Save s = { .f = state_text_begin(&t, HEADER), .now_usec = now_usec };

        if (!s.f)
                return NULL;
        for (size_t i = 0; i < n_overlays; i++) {
                const OverlayConfig *c = overlays[i]->config;

                s.overlay = c->name;
                (void) heat_table_foreach(
                        overlays[i]->heat, 0, now_usec, c->settings.hot_window_usec, write_entry, &s);
        }
        return state_text_end(&t);
}

typedef struct Load {
        saved_heat_func func;
        void *userdata;
} Load;

static int take_line(char *line, void *userdata) {
        uint64_t opens, misses, n_opens, usec;
        char *fields[6];
        const Load *l = userdata;
        SavedHeat s;

        state_file_split(line, fields, ELEMENTSOF(fields));
        if (state_file_parse_number(fields[0], UINT64_MAX, &opens) < 0 ||
            state_file_parse_number(fields[1], UINT64_MAX, &misses) < 0 ||
            state_file_parse_number(fields[2], UINT64_MAX, &n_opens) < 0 ||
            state_file_parse_number(fields[3], UINT64_MAX, &usec) < 0)
                return -EBADMSG;
        s = (SavedHeat){
                .overlay = state_file_parse_field(fields[4]),
                .path = state_file_parse_field(fields[5]),
                .opens = (double) opens / SCALE,
                .misses = (double) misses / SCALE,
                .n_opens = n_opens,
                .usec = usec,
        };
        if (!s.overlay || !s.path)
                return -EBADMSG;
        l->func(&s, l->userdata);
        return 0;
}

int heat_state_load(const char *state_dir, saved_heat_func func, void *userdata) {
        return state_file_load(
                state_dir, HEAT_FILE_NAME, HEADER, take_line, &(Load){ .func = func, .userdata = userdata });
}
