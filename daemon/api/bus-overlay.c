/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The objects of overlays: properties only, read from the daemon's memory. Nothing can be changed through
 * them; what changes an overlay is a method of the manager. A property says what the last look has shown,
 * and asks nobody anew. */
#include <string.h>

#include "api/bus-internal.h"
#include "base/strv.h"
#include "dbus/names.h"
#include "overlays/keeper.h"
#include "service/loop.h"

static PROPERTY_GETTER(get_name) {
        const Managed *o = userdata;

        return sd_bus_message_append(reply, "s", o->config->name);
}

static PROPERTY_GETTER(get_mount_point) {
        const Managed *o = userdata;

        return bus_append_text(reply, o->config->mount_point);
}

static PROPERTY_GETTER(get_state) {
        const Managed *o = userdata;

        return sd_bus_message_append(reply, "s", managed_state_to_string(o->state));
}

static PROPERTY_GETTER(get_layers) {
        const Managed *o = userdata;
        char **l = NULL;
        int r;

        if (o->overlay)
                l = strcmp(property, "LowerDirs") == 0 ? o->overlay->lower : o->overlay->data;
        r = sd_bus_message_open_container(reply, 'a', "s");
        for (; r >= 0 && l && *l; l++)
                r = bus_append_text(reply, *l);
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static PROPERTY_GETTER(get_directory) {
        const Managed *o = userdata;
        const char *value = NULL;

        if (o->overlay)
                value = strcmp(property, "UpperDir") == 0 ? o->overlay->upper : o->overlay->work;
        return bus_append_text(reply, value);
}

static PROPERTY_GETTER(get_options) {
        const Managed *o = userdata;

        return bus_append_text(reply, o->overlay ? o->overlay->fs_options : NULL);
}

/* The only one a stock kernel knows. */
static PROPERTY_GETTER(get_scheme) {
        return sd_bus_message_append(reply, "s", "redirect");
}

static PROPERTY_GETTER(get_directories) {
        const Managed *o = userdata;
        int r;

        r = sd_bus_message_open_container(reply, 'a', "{su}");
        if (r < 0)
                return r;
        for (DirectoryState s = 0; s < _DIRECTORY_STATE_MAX; s++) {
                size_t n = directory_table_count(o->directories, s);

                if (n == 0)
                        continue;
                r = sd_bus_message_append(reply, "{su}", directory_state_to_string(s), (uint32_t) n);
                if (r < 0)
                        return r;
        }
        return sd_bus_message_close_container(reply);
}

static int append_rates(sd_bus_message *reply, const Managed *o) {
        uint64_t now = loop_now(o->host->event, CLOCK_MONOTONIC);
        double misses, saved;

        counters_rates(&o->counters, now, &misses, &saved);
        return sd_bus_message_append(
                reply, "{st}{st}{st}", "misses_per_minute", bus_per_minute(misses), "saved_per_minute",
                bus_per_minute(saved), "counted_usec", now - manager_misses_usec(o->userdata, o));
}

static PROPERTY_GETTER(get_counters) {
        const Managed *o = userdata;
        int r;

        r = sd_bus_message_open_container(reply, 'a', "{st}");
        for (Counter c = 0; c < _COUNTER_MAX && r >= 0; c++)
                r = sd_bus_message_append(reply, "{st}", counter_to_string(c), o->counters.values[c]);
        if (r >= 0 && manager_counts_misses(o->userdata, o))
                r = append_rates(reply, o);
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static PROPERTY_GETTER(get_lower_answers) {
        const Histogram *h = &((const Managed *) userdata)->counters.answers;
        uint64_t n = 0;
        int r;

        r = sd_bus_message_open_container(reply, 'a', "{st}");
        for (size_t i = 0; i < HISTOGRAM_CLASSES && r >= 0; i++) {
                uint64_t bound = histogram_bound(i);
                char key[32];

                (void) snprintf(key, sizeof(key), "%llu", (unsigned long long) bound);
                n += h->counts[i];
                r = sd_bus_message_append(reply, "{st}", bound == UINT64_MAX ? "infinity" : key, n);
        }
        if (r >= 0)
                r = sd_bus_message_append(reply, "{st}", "sum", h->sum_usec);
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static PROPERTY_GETTER(get_n_kept) {
        return sd_bus_message_append(reply, "u", (uint32_t) managed_count_kept(userdata));
}

static PROPERTY_GETTER(get_draining) {
        const Managed *o = userdata;
        int r;

        r = sd_bus_message_open_container(reply, 'a', "a{sv}");
        for (const Keeper *k = o->keepers; k && r >= 0; k = k->next)
                if (k->draining.work_dir)
                        r = bus_append_dictionary(
                                reply, "susb", "work_dir", k->draining.work_dir, "processes",
                                k->draining.n_processes, "who", k->draining.who, "read_only",
                                k->draining.is_read_only);
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static PROPERTY_GETTER(get_watching) {
        const Managed *o = userdata;

        return sd_bus_message_append(reply, "s", source_state_to_string(o->watching.state));
}

static PROPERTY_GETTER(get_sources) {
        const Managed *o = userdata;
        const char *name, *state, *reason;
        int r;

        r = sd_bus_message_open_container(reply, 'a', "a{sv}");
        for (unsigned i = 0; r >= 0 && (state = manager_source_state(o->userdata, o, i, &name, &reason));
             i++)
                r = bus_append_dictionary(
                        reply, "sss", "name", name, "state", state, "reason", reason ?: "");
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Name", "s", get_name, 0, IS_CONST),
        SD_BUS_PROPERTY("MountPoint", "s", get_mount_point, 0, EMITS_CHANGE),
        SD_BUS_PROPERTY("State", "s", get_state, 0, EMITS_CHANGE),
        SD_BUS_PROPERTY("Reason", "s", bus_get_text, offsetof(Managed, reason), EMITS_CHANGE),
        SD_BUS_PROPERTY("LowerDirs", "as", get_layers, 0, EMITS_CHANGE),
        SD_BUS_PROPERTY("DataDirs", "as", get_layers, 0, EMITS_CHANGE),
        SD_BUS_PROPERTY("LowerUnproved", "s", bus_get_text, offsetof(Managed, unproved), EMITS_CHANGE),
        SD_BUS_PROPERTY("UpperDir", "s", get_directory, 0, EMITS_CHANGE),
        SD_BUS_PROPERTY("WorkDir", "s", get_directory, 0, EMITS_CHANGE),
        SD_BUS_PROPERTY("Options", "s", get_options, 0, EMITS_CHANGE),
        SD_BUS_PROPERTY("Scheme", "s", get_scheme, 0, IS_CONST),
        SD_BUS_PROPERTY("Directories", "a{su}", get_directories, 0, EMITS_CHANGE),
        SD_BUS_PROPERTY("Counters", "a{st}", get_counters, 0, 0),
        SD_BUS_PROPERTY("LowerAnswers", "a{st}", get_lower_answers, 0, 0),
        SD_BUS_PROPERTY("NKept", "u", get_n_kept, 0, EMITS_CHANGE),
        SD_BUS_PROPERTY("Draining", "aa{sv}", get_draining, 0, EMITS_CHANGE),
        SD_BUS_PROPERTY("Sources", "aa{sv}", get_sources, 0, EMITS_CHANGE),
        SD_BUS_PROPERTY("Watching", "s", get_watching, 0, EMITS_CHANGE),
        SD_BUS_PROPERTY(
                "WatchingReason", "s", bus_get_text, offsetof(Managed, watching.reason), EMITS_CHANGE),
        SD_BUS_PROPERTY("NKnown", "u", bus_get_count, offsetof(Managed, watching.n_known), EMITS_CHANGE),
        SD_BUS_PROPERTY("NWatches", "u", bus_get_count, offsetof(Managed, watching.n_watches), EMITS_CHANGE),
        SD_BUS_PROPERTY("Paused", "b", bus_get_bool, offsetof(Managed, is_paused), EMITS_CHANGE),
        SD_BUS_VTABLE_END,
};

static int overlay_find(
        sd_bus *bus,
        const char *path,
        const char *interface,
        void *userdata,
        void **ret,
        sd_bus_error *error) {
        _cleanup_free_ char *name = NULL;
        int r;

        r = sd_bus_path_decode(path, OVLFIND_OVERLAY_PATH_PREFIX, &name);
        if (r <= 0)
                return r;
        *ret = manager_find_overlay(userdata, name);
        return *ret != NULL;
}

static int
overlay_enumerate(sd_bus *bus, const char *prefix, void *userdata, char ***ret, sd_bus_error *error) {
        _cleanup_strv_free_ char **l = NULL;
        const Manager *m = userdata;

        for (size_t i = 0; i < m->n_overlays; i++) {
                _cleanup_free_ char *path = bus_overlay_path(m->overlays[i]->config->name);

                if (!path || strv_extend(&l, path) < 0)
                        return -ENOMEM;
        }
        *ret = TAKE_PTR(l);
        return 1;
}

int bus_overlay_attach(Manager *m) {
        int r;

        r = sd_bus_add_fallback_vtable(
                m->bus, NULL, OVLFIND_OVERLAY_PATH_PREFIX, OVLFIND_OVERLAY_INTERFACE, vtable, overlay_find,
                m);
        if (r < 0)
                return r;
        return sd_bus_add_node_enumerator(m->bus, NULL, OVLFIND_OVERLAY_PATH_PREFIX, overlay_enumerate, m);
}
