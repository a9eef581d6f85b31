/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The method ListHot(): the directories of one or of all overlays that are hottest, or in which most lookups
 * find nothing, whether a lower layer was asked for them or not. No worker is asked: it is told from the
 * daemon's table of heat. A directory weighs as much as its heat or as such lookups a minute, whichever is
 * more; those that weigh most are listed, as many as are wanted and one message may carry. */
#include <math.h>
#include <string.h>

#include "api/bus-internal.h"
#include "service/loop.h"

#define MOST 4096 /* what one message may carry, whatever is asked for */

typedef struct HotItem {
        HeatEntry entry;
        const Managed *overlay;
} HotItem;

/* Of one or of all overlays. */
typedef struct HotList {
        HotItem *items;
        size_t n;
        const Managed *overlay; /* the one that is looked at */
        const Manager *manager;
} HotList;

static void hot_list_done(HotList *l) {
        free(l->items);
}

/* What makes it worth to be told of: what is finalized has no heat, but saves lookups. */
static double item_weight(const HotItem *i) {
        return fmax(i->entry.heat, (i->entry.miss_rate + i->entry.save_rate) * MINUTE_SEC);
}

static int compare_weightier(const void *a, const void *b) {
        double x = item_weight(a), y = item_weight(b);

        return x == y ? 0 : x > y ? -1 : 1;
}

static int compare_hotter(const void *a, const void *b) {
        const HotItem *x = a, *y = b;

        return x->entry.heat == y->entry.heat   ? strcmp(x->entry.path, y->entry.path)
                : x->entry.heat > y->entry.heat ? -1
                                                : 1;
}

static int add_entry(const HeatEntry *e, void *userdata) {
        HotItem item = { .entry = *e };
        HotList *l = userdata;

        if (item_weight(&item) < 0.5)
                return 0;
        if (!ARRAY_GROW(l->items, l->n))
                return -ENOMEM;
        item.overlay = l->overlay;
        l->items[l->n++] = item;
        return 0;
}

/* The weightiest, hottest first. */
static int collect(const char *overlay, size_t most, HotList *l) {
        const Manager *m = l->manager;
        uint64_t now = loop_now(m->host.event, CLOCK_REALTIME);

        for (size_t i = 0; i < m->n_overlays; i++) {
                int r;

                l->overlay = m->overlays[i];
                if (overlay[0] != '\0' && strcmp(overlay, l->overlay->config->name) != 0)
                        continue;
                r = heat_table_foreach(
                        l->overlay->heat, 0, now, l->overlay->config->settings.hot_window_usec, add_entry,
                        l);
                if (r < 0)
                        return r;
        }
        if (l->n > most) {
                qsort(l->items, l->n, sizeof(HotItem), compare_weightier);
                l->n = most;
        }
        if (l->n > 1)
                qsort(l->items, l->n, sizeof(HotItem), compare_hotter);
        return 0;
}

static int append_misses(sd_bus_message *reply, const Manager *m, const Managed *o, const HeatEntry *e) {
        if (!manager_counts_misses(m, o))
                return 0;
        return bus_append_entries(
                reply, "tt", "misses_per_minute", bus_per_minute(e->miss_rate), "saved_per_minute",
                bus_per_minute(e->save_rate));
}

/* Besides what ListDirectories() says of a directory. */
static int append_hot(sd_bus_message *reply, const Manager *m, const Managed *o, const HeatEntry *e) {
        DirectoryInfo info = { .path = e->path, .reason = "", .scheme = "", .lower_path = "" };
        int r;

        (void) directory_table_get(o->directories, e->path, &info);
        if ((r = sd_bus_message_open_container(reply, 'a', "{sv}")) < 0 ||
            (r = bus_append_directory_entries(reply, m, o, &info)) < 0 ||
            (r = bus_append_entries(
                     reply, "ttt", "heat", (uint64_t) (e->heat + 0.5), "opens_per_minute",
                     bus_per_minute(e->open_rate), "opens", e->n_opens)) < 0 ||
            (r = append_misses(reply, m, o, e)) < 0)
                return r;
        return sd_bus_message_close_container(reply);
}

static int append_all(sd_bus_message *reply, void *userdata) {
        const HotList *l = userdata;
        int r = 0;

        for (size_t i = 0; r >= 0 && i < l->n; i++)
                r = append_hot(reply, l->manager, l->items[i].overlay, &l->items[i].entry);
        return r;
}

int bus_method_list_hot(sd_bus_message *message, Manager *m, sd_bus_error *error) {
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        _cleanup_(hot_list_done) HotList l = { .manager = m };
        const char *overlay;
        uint32_t most;
        int r;

        r = sd_bus_message_read(message, "su", &overlay, &most);
        if (r < 0)
                return r;
        if (overlay[0] != '\0' && !manager_get_overlay(m, overlay, &failure))
                return bus_error_from_failure(error, &failure);
        r = collect(overlay, most == 0 || most > MOST ? MOST : most, &l);
        return r < 0 ? r : bus_reply_list(message, "a{sv}", append_all, &l);
}
