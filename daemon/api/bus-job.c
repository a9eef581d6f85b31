/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The objects of jobs: their properties, what lists and cancels them, and how a job is found by its path. A
 * job is looked up by number each time, for it may be freed between two messages of a client; nothing here
 * keeps a pointer to one. */
#include "api/bus-internal.h"
#include "base/path-util.h"
#include "base/strv.h"
#include "dbus/names.h"
#include "service/config-value.h"

static PROPERTY_GETTER(get_type) {
        const Job *j = userdata;

        return sd_bus_message_append(reply, "s", job_type_to_string(j->type));
}

static PROPERTY_GETTER(get_path) {
        _cleanup_free_ char *absolute = job_path(userdata);

        return absolute ? bus_append_text(reply, absolute) : -ENOMEM;
}

static PROPERTY_GETTER(get_state) {
        const Job *j = userdata;

        return sd_bus_message_append(reply, "s", job_state_to_string(job_shown_state(j)));
}

static PROPERTY_GETTER(get_reason) {
        const Job *j = userdata;

        if (j->not_before_usec > 0)
                return bus_append_text(reply, j->pause_reason);
        if (j->state == JOB_WAITING && j->wait_reason)
                return bus_append_text(reply, j->wait_reason);
        return bus_append_text(reply, j->is_stalled ? job_doing(j) : NULL);
}

/* As the clock is now: it may have been set since. */
static PROPERTY_GETTER(get_next_try) {
        uint64_t realtime = 0, boottime = 0;
        const Job *j = userdata;

        (void) sd_event_now(sd_bus_get_event(bus), CLOCK_REALTIME, &realtime);
        (void) sd_event_now(sd_bus_get_event(bus), CLOCK_BOOTTIME, &boottime);
        return sd_bus_message_append(
                reply, "t", j->not_before_usec > 0 ? j->not_before_usec + (realtime - boottime) : 0);
}

static PROPERTY_GETTER(get_errors) {
        const Job *j = userdata;

        return sd_bus_message_append(
                reply, "u", (uint32_t) (j->n_errors < UINT32_MAX ? j->n_errors : UINT32_MAX));
}

static PROPERTY_GETTER(get_error_name) {
        const Job *j = userdata;

        return sd_bus_message_append(reply, "s", bus_error_name(j->failure.kind));
}

static PROPERTY_GETTER(get_notes) {
        const Job *j = userdata;
        int r = sd_bus_message_open_container(reply, 'a', "s");

        if (r < 0)
                return r;
        for (size_t i = 0; i < j->n_notes; i++) {
                r = bus_append_text(reply, j->notes[i]);
                if (r < 0)
                        return r;
        }
        if (j->n_notes_seen > j->n_notes) {
                _cleanup_free_ char *rest =
                        str_format("and %zu more, see the journal", j->n_notes_seen - j->n_notes);

                r = rest ? sd_bus_message_append(reply, "s", rest) : -ENOMEM;
                if (r < 0)
                        return r;
        }
        return sd_bus_message_close_container(reply);
}

static int append_step(sd_bus_message *reply, const Job *j, const JobStep *s) {
        _cleanup_free_ char *path = path_join(j->mount_point, s->path);

        if (!path)
                return -ENOMEM;
        return bus_append_dictionary(
                reply, "sssttt", "name", s->name, "path", path, "text", s->text, "entries", s->entries,
                "inodes", s->inodes, "bytes", s->bytes);
}

static int append_problem(sd_bus_message *reply, const Job *j, const JobStep *s) {
        _cleanup_free_ char *path = path_join(j->mount_point, s->path);

        if (!path)
                return -ENOMEM;
        return bus_append_dictionary(
                reply, "ssssb", "kind", s->name, "path", path, "text", s->text, "advice", s->advice,
                "mended", s->is_repaired);
}

static PROPERTY_GETTER(get_problems) {
        const Job *j = userdata;
        int r = sd_bus_message_open_container(reply, 'a', "a{sv}");

        for (size_t i = 0; r >= 0 && j->type == JOB_VERIFY && i < j->n_steps; i++)
                r = append_problem(reply, j, j->steps + i);
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static PROPERTY_GETTER(get_plan) {
        const Job *j = userdata;
        int r = sd_bus_message_open_container(reply, 'a', "a{sv}");

        if (r < 0)
                return r;
        if (j->type == JOB_VERIFY)
                return sd_bus_message_close_container(reply);
        for (size_t i = 0; i < j->n_steps; i++) {
                r = append_step(reply, j, j->steps + i);
                if (r < 0)
                        return r;
        }
        if (j->n_steps_seen > j->n_steps) {
                size_t n = j->n_steps_seen - j->n_steps;
                char name[] = "more", text[64];

                (void) snprintf(text, sizeof(text), "%zu more step%s", n, PLURAL(n));
                r = append_step(reply, j, &(JobStep){ .name = name, .path = j->path, .text = text });
                if (r < 0)
                        return r;
        }
        return sd_bus_message_close_container(reply);
}

static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Id", "u", NULL, offsetof(Job, id), IS_CONST),
        SD_BUS_PROPERTY("Type", "s", get_type, 0, IS_CONST),
        SD_BUS_PROPERTY("Overlay", "s", NULL, offsetof(Job, overlay), IS_CONST),
        SD_BUS_PROPERTY("Path", "s", get_path, 0, IS_CONST),
        SD_BUS_PROPERTY("Automatic", "b", bus_get_bool, offsetof(Job, is_automatic), EMITS_CHANGE),
        SD_BUS_PROPERTY("DryRun", "b", bus_get_bool, offsetof(Job, options.is_dry_run), IS_CONST),
        SD_BUS_PROPERTY("State", "s", get_state, 0, EMITS_CHANGE),
        SD_BUS_PROPERTY("Reason", "s", get_reason, 0, EMITS_CHANGE),
        SD_BUS_PROPERTY("NextTryUSec", "t", get_next_try, 0, EMITS_CHANGE),
        SD_BUS_PROPERTY("Stalled", "b", bus_get_bool, offsetof(Job, is_stalled), EMITS_CHANGE),
        SD_BUS_PROPERTY("EntriesDone", "t", NULL, offsetof(Job, entries_done), EMITS_CHANGE),
        SD_BUS_PROPERTY("EntriesTotal", "t", NULL, offsetof(Job, entries_total), EMITS_CHANGE),
        SD_BUS_PROPERTY("BytesCopied", "t", NULL, offsetof(Job, bytes_copied), EMITS_CHANGE),
        SD_BUS_PROPERTY("Errors", "u", get_errors, 0, EMITS_CHANGE),
        SD_BUS_PROPERTY("ErrorName", "s", get_error_name, 0, EMITS_CHANGE),
        SD_BUS_PROPERTY("ErrorMessage", "s", bus_get_text, offsetof(Job, failure.message), EMITS_CHANGE),
        SD_BUS_PROPERTY("Notes", "as", get_notes, 0, EMITS_INVALIDATION),
        SD_BUS_PROPERTY("QueuedUSec", "t", NULL, offsetof(Job, queued_usec), IS_CONST),
        SD_BUS_PROPERTY("StartedUSec", "t", NULL, offsetof(Job, started_usec), EMITS_CHANGE),
        SD_BUS_PROPERTY("FinishedUSec", "t", NULL, offsetof(Job, finished_usec), EMITS_CHANGE),
        SD_BUS_PROPERTY("Plan", "aa{sv}", get_plan, 0, EMITS_INVALIDATION),
        SD_BUS_PROPERTY("Problems", "aa{sv}", get_problems, 0, EMITS_INVALIDATION),
        BUS_METHOD("Cancel", (NULL), (NULL)),
        SD_BUS_VTABLE_END,
};

static bool job_id_from_path(const char *path, uint32_t *ret) {
        const char *number = path_startswith(path, OVLFIND_JOB_PATH_PREFIX);
        uint64_t id;

        if (!number || value_parse_uint(number, &id) < 0 || id > UINT32_MAX)
                return false;
        *ret = (uint32_t) id;
        return true;
}

static int job_find(
        sd_bus *bus,
        const char *path,
        const char *interface,
        void *userdata,
        void **ret,
        sd_bus_error *error) {
        const Manager *m = userdata;
        uint32_t id;

        *ret = job_id_from_path(path, &id) ? queue_find(m->queue, id) : NULL;
        return *ret != NULL;
}

static int job_enumerate(sd_bus *bus, const char *prefix, void *userdata, char ***ret, sd_bus_error *error) {
        _cleanup_strv_free_ char **l = NULL;
        const Manager *m = userdata;

        QUEUE_FOREACH (j, m->queue) {
                _cleanup_free_ char *path = bus_job_path((*j)->id);

                if (!path || strv_extend(&l, path) < 0)
                        return -ENOMEM;
        }
        *ret = TAKE_PTR(l);
        return 1;
}

int bus_job_attach(Manager *m) {
        int r = sd_bus_add_fallback_vtable(
                m->bus, NULL, OVLFIND_JOB_PATH_PREFIX, OVLFIND_JOB_INTERFACE, vtable, job_find, m);

        if (r < 0)
                return r;
        return sd_bus_add_node_enumerator(m->bus, NULL, OVLFIND_JOB_PATH_PREFIX, job_enumerate, m);
}

int bus_reply_job(Manager *m, sd_bus_message *message, const Job *j) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_free_ char *object = j ? bus_job_path(j->id) : NULL;
        int r;

        if (j && !object)
                return -ENOMEM;
        manager_flush(m);
        r = sd_bus_message_new_method_return(message, &reply);
        if (r >= 0 && object)
                r = sd_bus_message_append(reply, "o", object);
        return r < 0 ? r : manager_reply_when_saved(m, reply);
}

static int cancel_job(sd_bus_message *message, Manager *m, uint32_t id, sd_bus_error *error) {
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        int r = manager_cancel_job(m, id, &failure);

        if (r < 0)
                return bus_error_from_failure(error, &failure);
        return bus_reply_job(m, message, NULL);
}

int bus_method_cancel_job(sd_bus_message *message, Manager *m, sd_bus_error *error) {
        uint32_t id;
        int r = sd_bus_message_read(message, "u", &id);

        return r < 0 ? r : cancel_job(message, m, id, error);
}

/* By its path: the job may have been freed while the bus was asked who is calling. */
int bus_method_cancel(sd_bus_message *message, Manager *m, sd_bus_error *error) {
        uint32_t id;

        return job_id_from_path(sd_bus_message_get_path(message), &id) ? cancel_job(message, m, id, error)
                                                                       : -EINVAL;
}

static int append_jobs(sd_bus_message *reply, void *userdata) {
        const Queue *q = userdata;
        int r = 0;

        QUEUE_FOREACH (j, q) {
                _cleanup_free_ char *path = bus_job_path((*j)->id);

                r = path ? sd_bus_message_append(reply, "(uo)", (*j)->id, path) : -ENOMEM;
                if (r < 0)
                        break;
        }
        return r;
}

int bus_method_list_jobs(sd_bus_message *message, Manager *m, sd_bus_error *error) {
        return bus_reply_list(message, "(uo)", append_jobs, m->queue);
}
