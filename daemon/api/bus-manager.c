/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The manager's object: its methods, properties and signals. A handler decodes, calls the manager, and
 * encodes; what a job is, and whether one is made, is decided below. Whoever changes something is
 * authorized first. Before a reply that promises something, what has changed is sent. */
#include <string.h>

#include "api/bus-internal.h"
#include "dbus/names.h"
#include "manager/status.h"

static PROPERTY_GETTER(get_count) {
        const Manager *m = userdata;
        uint32_t n;

        if (strcmp(property, "NOverlays") == 0)
                n = (uint32_t) m->n_overlays;
        else if (strcmp(property, "NJobs") == 0)
                n = queue_count_unfinished(m->queue);
        else
                n = status_count_finalized(m);
        return sd_bus_message_append(reply, "u", n);
}

static PROPERTY_GETTER(get_version) {
        return sd_bus_message_append(reply, "s", OVLFIND_VERSION);
}

/* Finalize and its kin. */

static int read_method(sd_bus_message *message, JobOptions *options, Failure *reterr) {
        const char *method;
        int r = sd_bus_message_read(message, "v", "s", &method);

        if (r < 0)
                return r;
        options->method = method_from_string(method);
        options->has_method = true;
        if (options->method >= 0)
                return 0;
        return failure_set(
                reterr, FAILURE_INVALID, EINVAL, "unknown method '%s'; use auto, exchange or mark", method);
}

static int read_standing(sd_bus_message *message, JobOptions *options, Failure *reterr) {
        const char *standing;
        int r = sd_bus_message_read(message, "v", "s", &standing);

        if (r < 0)
                return r;
        options->standing = standing_from_string(standing);
        options->has_standing = true;
        if (options->standing >= 0)
                return 0;
        return failure_set(
                reterr, FAILURE_INVALID, EINVAL, "unknown value '%s' of standing; use auto, keep or wait",
                standing);
}

static int read_option(sd_bus_message *message, const char *key, void *userdata, Failure *reterr) {
        JobOptions *options = userdata;

        if (strcmp(key, "dry-run") == 0)
                return bus_read_flag(message, &options->is_dry_run);
        if (strcmp(key, "force") == 0)
                return bus_read_flag(message, &options->is_forced);
        if (strcmp(key, "repair") == 0)
                return bus_read_flag(message, &options->is_repair);
        if (strcmp(key, "data") == 0) {
                options->has_data = true;
                return sd_bus_message_read(message, "v", "t", &options->data_bytes);
        }
        if (strcmp(key, "method") == 0)
                return read_method(message, options, reterr);
        if (strcmp(key, "standing") == 0)
                return read_standing(message, options, reterr);
        options->has_depth |= strcmp(key, "depth") == 0;
        if (strcmp(key, "depth") == 0)
                return sd_bus_message_read(message, "v", "u", &options->depth);
        if (strcmp(key, "parents") == 0)
                return bus_read_flag(message, &options->want_parents);
        if (strcmp(key, "reset") == 0)
                return failure_set(
                        reterr, FAILURE_PRECONDITION, EOPNOTSUPP,
                        "option 'reset' is for an overlay that is not mounted: as long as it is, the kernel "
                        "may "
                        "take a lower file for the copy that it has in memory, and would write to a copy "
                        "that is "
                        "gone; unmount it, then run 'ovlfinctl unfinalize --offline --reset "
                        "--upper=UPPERDIR "
                        "--lower=LOWERDIR PATH', with PATH below the mount point");
        return failure_set(reterr, FAILURE_INVALID, EINVAL, "unknown option '%s'", key);
}

/* What an option asks for has to be possible: better no job than another one. */
static int check_options(JobType type, const JobOptions *options, Failure *reterr) {
        bool needs_mark = options->has_depth || options->want_parents;

        if (type == JOB_UNFINALIZE &&
            (needs_mark || (options->has_method && options->method == METHOD_MARK)))
                return failure_set(
                        reterr, FAILURE_INVALID, EINVAL,
                        "a directory is unfinalized by exchange, with all below it: method 'mark', 'depth' "
                        "and "
                        "'parents' are for finalizing");
        if (needs_mark && options->has_method && options->method == METHOD_EXCHANGE)
                return failure_set(
                        reterr, FAILURE_INVALID, EINVAL,
                        "an exchange takes a directory with all below it: 'depth' and 'parents' need method "
                        "'mark'");
        return 0;
}

/* Finalize(), Unfinalize(), Refresh(), Prune() and Verify(): each is named as its job. */
int bus_method_add_job(sd_bus_message *message, Manager *m, sd_bus_error *error) {
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        JobOptions options = { .uid = bus_auth_get_caller(m) };
        _cleanup_free_ char *path = NULL;
        JobType type = 0;
        Job *j;
        int r;

        while (strcasecmp(job_type_to_string(type), sd_bus_message_get_member(message)) != 0)
                if (++type == _JOB_TYPE_MAX)
                        return -EOPNOTSUPP;
        r = bus_read_text(message, &path);
        if (r >= 0)
                r = bus_read_options(message, read_option, &options, &failure);
        if (r >= 0)
                r = check_options(type, &options, &failure);
        if (r >= 0)
                r = manager_add_job(m, type, path, &options, &j, &failure);
        if (r < 0)
                return failure.kind != FAILURE_NONE ? bus_error_from_failure(error, &failure) : r;
        return bus_reply_job(m, message, j);
}

/* Overlays. */

static int append_overlays(sd_bus_message *reply, void *userdata) {
        const Manager *m = userdata;
        int r = 0;

        for (size_t i = 0; i < m->n_overlays && r >= 0; i++) {
                const char *name = m->overlays[i]->config->name;
                _cleanup_free_ char *path = bus_overlay_path(name);

                r = path ? sd_bus_message_append(reply, "(so)", name, path) : -ENOMEM;
        }
        return r;
}

int bus_method_list_overlays(sd_bus_message *message, Manager *m, sd_bus_error *error) {
        return bus_reply_list(message, "(so)", append_overlays, m);
}

/* Pause() and Resume(). */
int bus_method_pause(sd_bus_message *message, Manager *m, sd_bus_error *error) {
        bool is_paused = strcmp(sd_bus_message_get_member(message), "Pause") == 0;
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        const char *overlay;
        int r = sd_bus_message_read(message, "s", &overlay);

        if (r < 0)
                return r;
        r = manager_set_paused(m, overlay, is_paused, &failure);
        if (r < 0)
                return bus_error_from_failure(error, &failure);
        return sd_bus_reply_method_return(message, NULL);
}

int bus_method_reload(sd_bus_message *message, Manager *m, sd_bus_error *error) {
        if (manager_reload(m) < 0)
                return sd_bus_error_setf(
                        error, SD_BUS_ERROR_FAILED,
                        "The configuration could not be read, the old one stays in force; see the journal");
        return sd_bus_reply_method_return(message, NULL);
}

static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Version", "s", get_version, 0, IS_CONST),
        SD_BUS_PROPERTY("Paused", "b", bus_get_bool, offsetof(Manager, host.is_paused), EMITS_CHANGE),
        SD_BUS_PROPERTY("NOverlays", "u", get_count, 0, EMITS_CHANGE),
        SD_BUS_PROPERTY("NJobs", "u", get_count, 0, EMITS_CHANGE),
        SD_BUS_PROPERTY("NFinalized", "u", get_count, 0, EMITS_CHANGE),
        BUS_METHOD("Finalize", ("s", path, "a{sv}", options), ("o", job)),
        BUS_METHOD("Unfinalize", ("s", path, "a{sv}", options), ("o", job)),
        BUS_METHOD("Remount", ("s", overlay, "a{sv}", options), ("o", job)),
        BUS_METHOD("Refresh", ("s", path, "a{sv}", options), ("o", job)),
        BUS_METHOD("Prune", ("s", path, "a{sv}", options), ("o", job)),
        BUS_METHOD("Verify", ("s", path, "a{sv}", options), ("o", job)),
        BUS_METHOD("GetDirectory", ("s", path), ("a{sv}", directory)),
        BUS_METHOD("ListDirectories", ("s", overlay, "a{sv}", filter), ("aa{sv}", directories)),
        BUS_METHOD("ListHot", ("s", overlay, "u", most), ("aa{sv}", directories)),
        BUS_METHOD("ListBlockers", ("s", overlay), ("aa{sv}", blockers)),
        BUS_METHOD("Check", ("s", overlay), ("aa{sv}", checks)),
        BUS_METHOD("ListOverlays", (NULL), ("a(so)", overlays)),
        BUS_METHOD("ListJobs", (NULL), ("a(uo)", jobs)),
        BUS_METHOD("CancelJob", ("u", id), (NULL)),
        BUS_METHOD("Pause", ("s", overlay), (NULL)),
        BUS_METHOD("Resume", ("s", overlay), (NULL)),
        BUS_METHOD("Reload", (NULL), (NULL)),
        SD_BUS_SIGNAL_WITH_ARGS("JobNew", SD_BUS_ARGS("u", id, "o", job), 0),
        SD_BUS_SIGNAL_WITH_ARGS("JobRemoved", SD_BUS_ARGS("u", id, "o", job, "s", result), 0),
        SD_BUS_SIGNAL_WITH_ARGS("DirectoryChanged", SD_BUS_ARGS("s", overlay, "s", path, "s", state), 0),
        SD_BUS_SIGNAL_WITH_ARGS("Remounted", SD_BUS_ARGS("s", overlay, "s", method, "t", usec), 0),
        SD_BUS_VTABLE_END,
};

int bus_manager_attach(Manager *m) {
        return sd_bus_add_object_vtable(
                m->bus, NULL, OVLFIND_OBJECT_PATH, OVLFIND_MANAGER_INTERFACE, vtable, m);
}
