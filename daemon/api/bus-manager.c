/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The manager's object: its methods, properties and signals. A handler decodes, calls the manager, and
 * encodes; what a job is, and whether one is made, is decided below. Whoever changes something is
 * authorized first. Before a reply that promises something, what has changed is sent. */
#include <string.h>

#include "api/bus-auth.h"
#include "api/bus-internal.h"
#include "dbus/names.h"
#include "manager/status.h"

static int get_count(
        sd_bus *bus,
        const char *path,
        const char *interface,
        const char *property,
        sd_bus_message *reply,
        void *userdata,
        sd_bus_error *error) {
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

static int get_version(
        sd_bus *bus,
        const char *path,
        const char *interface,
        const char *property,
        sd_bus_message *reply,
        void *userdata,
        sd_bus_error *error) {
        return sd_bus_message_append(reply, "s", OVLFIND_VERSION);
}

static int get_paused(
        sd_bus *bus,
        const char *path,
        const char *interface,
        const char *property,
        sd_bus_message *reply,
        void *userdata,
        sd_bus_error *error) {
        const Manager *m = userdata;

        return sd_bus_message_append(reply, "b", (int) m->host.is_paused);
}

/* Finalize and its kin. */

static int read_method(sd_bus_message *message, JobOptions *options, Failure *reterr) {
        const char *method;
        int r;

        r = sd_bus_message_read(message, "v", "s", &method);
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

static int add_job(sd_bus_message *message, Manager *m, JobType type, sd_bus_error *error) {
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        JobOptions options = { .uid = bus_auth_get_caller(m) };
        _cleanup_free_ char *path = NULL;
        Job *j;
        int r;

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

static int finalize_authorized(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        return add_job(message, userdata, JOB_FINALIZE, error);
}

static int method_finalize(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        return bus_auth_call(message, BUS_ACTION_FINALIZE, finalize_authorized, userdata);
}

static int unfinalize_authorized(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        return add_job(message, userdata, JOB_UNFINALIZE, error);
}

static int method_unfinalize(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        return bus_auth_call(message, BUS_ACTION_UNFINALIZE, unfinalize_authorized, userdata);
}

static int refresh_authorized(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        return add_job(message, userdata, JOB_REFRESH, error);
}

static int method_refresh(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        return bus_auth_call(message, BUS_ACTION_FINALIZE, refresh_authorized, userdata);
}

static int prune_authorized(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        return add_job(message, userdata, JOB_PRUNE, error);
}

static int method_prune(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        return bus_auth_call(message, BUS_ACTION_PRUNE, prune_authorized, userdata);
}

static int verify_authorized(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        return add_job(message, userdata, JOB_VERIFY, error);
}

static int method_verify(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        return bus_auth_call(message, BUS_ACTION_FINALIZE, verify_authorized, userdata);
}

/* Jobs. */

static int cancel_job_authorized(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        uint32_t id;
        int r;

        r = sd_bus_message_read(message, "u", &id);
        return r < 0 ? r : bus_cancel_job(userdata, id, message, error);
}

static int method_cancel_job(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        return bus_auth_call(message, BUS_ACTION_MANAGE, cancel_job_authorized, userdata);
}

typedef struct JobList {
        sd_bus_message *reply;
        int error;
} JobList;

static void append_job(Job *j, void *userdata) {
        _cleanup_free_ char *path = bus_job_path(j->id);
        JobList *l = userdata;

        if (l->error >= 0)
                l->error = path ? sd_bus_message_append(l->reply, "(uo)", j->id, path) : -ENOMEM;
}

static int method_list_jobs(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        Manager *m = userdata;
        JobList l = { 0 };
        int r;

        r = sd_bus_message_new_method_return(message, &reply);
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(reply, 'a', "(uo)");
        if (r < 0)
                return r;
        l.reply = reply;
        queue_foreach(m->queue, append_job, &l);
        if (l.error < 0)
                return l.error;
        r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_message_send(reply);
}

/* Overlays. */

static int method_list_overlays(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        Manager *m = userdata;
        int r;

        r = sd_bus_message_new_method_return(message, &reply);
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(reply, 'a', "(so)");
        if (r < 0)
                return r;
        for (size_t i = 0; i < m->n_overlays; i++) {
                const char *name = m->overlays[i]->config->name;
                _cleanup_free_ char *path = bus_overlay_path(name);

                r = path ? sd_bus_message_append(reply, "(so)", name, path) : -ENOMEM;
                if (r < 0)
                        return r;
        }
        r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_message_send(reply);
}

static int set_paused(sd_bus_message *message, Manager *m, bool is_paused, sd_bus_error *error) {
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        const char *overlay;
        int r;

        r = sd_bus_message_read(message, "s", &overlay);
        if (r < 0)
                return r;
        r = manager_set_paused(m, overlay, is_paused, &failure);
        if (r < 0)
                return bus_error_from_failure(error, &failure);
        return sd_bus_reply_method_return(message, NULL);
}

static int pause_authorized(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        return set_paused(message, userdata, true, error);
}

static int method_pause(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        return bus_auth_call(message, BUS_ACTION_MANAGE, pause_authorized, userdata);
}

static int resume_authorized(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        return set_paused(message, userdata, false, error);
}

static int method_resume(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        return bus_auth_call(message, BUS_ACTION_MANAGE, resume_authorized, userdata);
}

static int reload_authorized(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        if (manager_reload(userdata) < 0)
                return sd_bus_error_setf(
                        error, SD_BUS_ERROR_FAILED,
                        "The configuration could not be read, the old one stays in force; see the journal");
        return sd_bus_reply_method_return(message, NULL);
}

static int method_reload(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        return bus_auth_call(message, BUS_ACTION_MANAGE, reload_authorized, userdata);
}

static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Version", "s", get_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Paused", "b", get_paused, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("NOverlays", "u", get_count, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("NJobs", "u", get_count, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("NFinalized", "u", get_count, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_METHOD_WITH_ARGS(
                "Finalize",
                SD_BUS_ARGS("s", path, "a{sv}", options),
                SD_BUS_RESULT("o", job),
                method_finalize,
                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS(
                "Unfinalize",
                SD_BUS_ARGS("s", path, "a{sv}", options),
                SD_BUS_RESULT("o", job),
                method_unfinalize,
                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS(
                "Remount",
                SD_BUS_ARGS("s", overlay, "a{sv}", options),
                SD_BUS_RESULT("o", job),
                bus_method_remount,
                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS(
                "Refresh",
                SD_BUS_ARGS("s", path, "a{sv}", options),
                SD_BUS_RESULT("o", job),
                method_refresh,
                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS(
                "Prune",
                SD_BUS_ARGS("s", path, "a{sv}", options),
                SD_BUS_RESULT("o", job),
                method_prune,
                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS(
                "Verify",
                SD_BUS_ARGS("s", path, "a{sv}", options),
                SD_BUS_RESULT("o", job),
                method_verify,
                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS(
                "GetDirectory",
                SD_BUS_ARGS("s", path),
                SD_BUS_RESULT("a{sv}", directory),
                bus_method_get_directory,
                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS(
                "ListDirectories",
                SD_BUS_ARGS("s", overlay, "a{sv}", filter),
                SD_BUS_RESULT("aa{sv}", directories),
                bus_method_list_directories,
                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS(
                "ListHot",
                SD_BUS_ARGS("s", overlay, "u", most),
                SD_BUS_RESULT("aa{sv}", directories),
                bus_method_list_hot,
                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS(
                "ListBlockers",
                SD_BUS_ARGS("s", overlay),
                SD_BUS_RESULT("aa{sv}", blockers),
                bus_method_list_blockers,
                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS(
                "Check",
                SD_BUS_ARGS("s", overlay),
                SD_BUS_RESULT("aa{sv}", checks),
                bus_method_check,
                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS(
                "ListOverlays",
                SD_BUS_NO_ARGS,
                SD_BUS_RESULT("a(so)", overlays),
                method_list_overlays,
                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS(
                "ListJobs",
                SD_BUS_NO_ARGS,
                SD_BUS_RESULT("a(uo)", jobs),
                method_list_jobs,
                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS(
                "CancelJob",
                SD_BUS_ARGS("u", id),
                SD_BUS_NO_RESULT,
                method_cancel_job,
                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS(
                "Pause",
                SD_BUS_ARGS("s", overlay),
                SD_BUS_NO_RESULT,
                method_pause,
                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS(
                "Resume",
                SD_BUS_ARGS("s", overlay),
                SD_BUS_NO_RESULT,
                method_resume,
                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS(
                "Reload", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_reload, SD_BUS_VTABLE_UNPRIVILEGED),
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
