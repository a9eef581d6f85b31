/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manager/manager.h"

#include <signal.h>
#include <string.h>

#include "base/path-util.h"
#include "base/strv.h"
#include "bus/emit.h"
#include "dbus/names.h"
#include "jobs/state.h"
#include "manager/status.h"
#include "overlays/heat-state.h"
#include "service/log.h"
#include "service/messages.h"

/* How long changes of properties are gathered before they are sent. Workers report up to ten times a second
 * each. */
#define FLUSH_USEC (100 * USEC_PER_MSEC)
/* Longer than a worker has from SIGTERM to being abandoned, shorter than systemd waits (TimeoutStopSec=). */
#define STOP_USEC (PROC_CANCEL_USEC + PROC_KILL_USEC + 5 * USEC_PER_SEC)

static int on_stop_timeout(sd_event_source *s, uint64_t usec, void *userdata) {
        Manager *m = userdata;

        log_warning("Not waiting any longer for workers to end");
        return sd_event_exit(m->host.event, 0);
}

/* Stops all workers, then the loop. Their jobs stay resumable. */
static void manager_stop(Manager *m) {
        if (m->host.is_stopping)
                return;
        manager_save_state(m);
        manager_save_heat(m);
        notifier_stopping(m->notifier);
        notifier_status(m->notifier, "Waiting for the workers to stop");
        log_info("Stopping");
        m->host.is_stopping = true;
        m->queries = query_pool_free(m->queries);
        proc_pool_terminate(m->host.workers);
        if (proc_pool_is_idle(m->host.workers) ||
            sd_event_add_time_relative(
                    m->host.event, &m->stop_timer, CLOCK_MONOTONIC, STOP_USEC, USEC_PER_SEC, on_stop_timeout,
                    m) < 0)
                (void) sd_event_exit(m->host.event, 0);
}

static int on_terminate(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata) {
        manager_stop(userdata);
        return 0;
}

static int on_reload(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata) {
        (void) manager_reload(userdata);
        return 0;
}

static int on_work(sd_event_source *s, void *userdata) {
        manager_start_jobs(userdata);
        return 0;
}

void manager_wake(Manager *m) {
        if (m->work_source)
                (void) sd_event_source_set_enabled(m->work_source, SD_EVENT_ONESHOT);
}

static void manager_send_status(Manager *m) {
        _cleanup_free_ char *text = NULL;

        if (!m->is_ready || m->host.is_stopping)
                return;
        text = status_format(m);
        if (text)
                notifier_status(m->notifier, text);
}

void manager_flush(Manager *m) {
        _cleanup_strv_free_ char **objects = TAKE_PTR(m->changed_objects);

        (void) sd_event_source_set_enabled(m->flush_source, SD_EVENT_OFF);
        STRV_FOREACH (p, objects)
                bus_send_properties_changed(m->bus, *p);
        if (m->is_manager_changed) {
                m->is_manager_changed = false;
                bus_send_properties_changed(m->bus, OVLFIND_OBJECT_PATH);
        }
        manager_send_status(m);
        manager_save_state(m);
}

static int on_flush(sd_event_source *s, uint64_t usec, void *userdata) {
        manager_flush(userdata);
        return 0;
}

void manager_schedule_flush(Manager *m) {
        int enabled = SD_EVENT_OFF;

        if (!m->flush_source)
                return;
        (void) sd_event_source_get_enabled(m->flush_source, &enabled);
        if (enabled != SD_EVENT_OFF)
                return;
        (void) sd_event_source_set_time_relative(m->flush_source, FLUSH_USEC);
        (void) sd_event_source_set_enabled(m->flush_source, SD_EVENT_ONESHOT);
}

static void manager_object_changed(Manager *m, const char *object) {
        manager_schedule_flush(m);
        if (!object ||
            (!strv_contains(m->changed_objects, object) && strv_extend(&m->changed_objects, object) < 0))
                (void) log_oom();
}

void manager_overlay_changed(Managed *o) {
        Manager *m = o->userdata;
        _cleanup_free_ char *path = bus_overlay_path(o->config->name);

        manager_tell_sources(m, o, /* is_going= */ false);
        m->is_manager_changed = true;
        manager_object_changed(m, path);
        manager_wake(m);
}

void manager_job_changed(Manager *m, Job *j) {
        _cleanup_free_ char *path = bus_job_path(j->id);

        manager_object_changed(m, path);
}

Managed *manager_find_overlay(const Manager *m, const char *name) {
        for (size_t i = 0; i < m->n_overlays; i++)
                if (strcmp(m->overlays[i]->config->name, name) == 0)
                        return m->overlays[i];
        return NULL;
}

Managed *manager_get_overlay(const Manager *m, const char *name, Failure *reterr) {
        Managed *o = manager_find_overlay(m, name);

        if (!o)
                (void) failure_set(
                        reterr, FAILURE_NO_SUCH_OVERLAY, ENOENT, "no overlay '%s' is configured", name);
        return o;
}

/* Of the overlays a path is below of by name, it is on the innermost one that is mounted. */
static bool is_nearer(const Managed *o, const Managed *best) {
        if (!best)
                return true;
        if ((o->state == MANAGED_ABSENT) != (best->state == MANAGED_ABSENT))
                return best->state == MANAGED_ABSENT;
        return strlen(o->config->mount_point) > strlen(best->config->mount_point);
}

int manager_find_path(
        const Manager *m, const char *path, Managed **ret, char **ret_relative, Failure *reterr) {
        _cleanup_free_ char *p = strdup(path), *relative = NULL;
        Managed *best = NULL;

        if (!p)
                return failure_set_errno(reterr, -ENOMEM, "cannot look for '%s'", path);
        if (path[0] != '/' || path_simplify(p) < 0)
                return failure_set(
                        reterr, FAILURE_INVALID, EINVAL, "'%s' is not an absolute path without '..'", path);
        for (size_t i = 0; i < m->n_overlays; i++)
                if (path_startswith(p, m->overlays[i]->config->mount_point) &&
                    is_nearer(m->overlays[i], best))
                        best = m->overlays[i];
        if (!best)
                return failure_set(
                        reterr, FAILURE_NOT_MANAGED, ENOENT,
                        "'%s' is not on an overlay that ovlfind manages; configure it in "
                        "/etc/ovlfind/overlays.d",
                        path);
        relative = strdup(path_startswith(p, best->config->mount_point));
        if (!relative)
                return failure_set_errno(reterr, -ENOMEM, "cannot look for '%s'", path);
        *ret = best;
        *ret_relative = TAKE_PTR(relative);
        return 0;
}

/* Configuration and mounts. */

static void manager_remove_overlay(Manager *m, size_t i) {
        Managed *o = m->overlays[i];

        manager_fail_jobs(o, FAILURE_NOT_MANAGED, "it is not configured any more");
        manager_tell_sources(m, o, /* is_going= */ true);
        memmove(m->overlays + i, m->overlays + i + 1, (--m->n_overlays - i) * sizeof(Managed *));
        bus_announce_overlay(m->bus, o->config->name, /* is_there= */ false);
        queue_remove_lane(m->queue, o->config->name);
        (void) managed_free(o);
}

/* What overlays tell. */

static void on_directory_changed(Managed *o, const char *path, DirectoryState state) {
        const Manager *m = o->userdata;

        bus_send_directory_changed(m->bus, o->config->name, o->config->mount_point, path, state);
}

static void on_wake(Managed *o) {
        manager_wake(o->userdata);
}

static void on_keeper_lost(Managed *o, bool at_once) {
        if (at_once)
                managed_survey(o);
        else
                managed_schedule_retry(o);
}

static void on_watcher_started(Managed *o) {
        const Manager *m = o->userdata;

        run_pause_all_watches(&m->runs, o);
}

static void on_catch_up(Managed *o) {
        const Manager *m = o->userdata;

        mount_monitor_catch_up(m->monitor);
}

static bool is_at_work(const Managed *o) {
        const Manager *m = o->userdata;

        return queue_is_at_work(m->queue, o->config->name);
}

static const ManagedEvents managed_events = {
        .changed = manager_overlay_changed,
        .directory_changed = on_directory_changed,
        .wake = on_wake,
        .fail_jobs = manager_fail_jobs,
        .may_remount = manager_want_options,
        .keeper_lost = on_keeper_lost,
        .lower_changed = manager_lower_changed,
        .used = manager_used,
        .watcher_started = on_watcher_started,
        .catch_up = on_catch_up,
        .is_at_work = is_at_work,
};

static int manager_insert_overlay(Manager *m, OverlayConfig *config, const MountTable *table) {
        _cleanup_(managed_freep) Managed *o = NULL;
        size_t i = 0;
        int r;

        r = managed_new(&m->host, &managed_events, m, config, &o);
        if (r < 0)
                return r;
        if (!ARRAY_GROW(m->overlays, m->n_overlays))
                return -ENOMEM;
        while (i < m->n_overlays && strcmp(m->overlays[i]->config->name, config->name) < 0)
                i++;
        memmove(m->overlays + i + 1, m->overlays + i, (m->n_overlays++ - i) * sizeof(Managed *));
        m->overlays[i] = o;
        managed_update_mount(TAKE_PTR(o), table);
        bus_announce_overlay(m->bus, config->name, /* is_there= */ true);
        return 0;
}

/* Brings the overlays in line with a configuration. */
static int manager_apply_config(Manager *m, const Config *c, const MountTable *table) {
        m->is_manager_changed = true;
        for (size_t i = m->n_overlays; i > 0; i--)
                if (!config_find(c, m->overlays[i - 1]->config->name))
                        manager_remove_overlay(m, i - 1);
        for (size_t i = 0; i < c->n_overlays; i++) {
                Managed *o = manager_find_overlay(m, c->overlays[i]->name);
                int r;

                if (o) {
                        managed_set_config(o, c->overlays[i], table);
                        continue;
                }
                r = manager_insert_overlay(m, c->overlays[i], table);
                if (r < 0)
                        return r;
        }
        manager_wake(m);
        return 0;
}

static int manager_load_config(Manager *m) {
        _cleanup_table_ MountTable table = { 0 };
        _cleanup_(config_freep) Config *c = NULL;
        int r;

        r = mount_monitor_read(&table);
        if (r < 0)
                return log_error_errno(r, "Cannot read the mount table: %m");
        r = config_load(m->folders, m->config, &c);
        if (r < 0)
                return r;
        r = manager_apply_config(m, c, &table);
        if (r < 0)
                return log_error_errno(r, "Cannot apply the configuration: %m");
        (void) config_free(m->config);
        m->config = TAKE_PTR(c);
        return 0;
}

int manager_reload(Manager *m) {
        LogFields f = { .message_id = MESSAGE_RELOAD_FAILED };
        int r;

        if (m->host.is_stopping)
                return -ECANCELED;
        notifier_reloading(m->notifier);
        log_info("Reading the configuration");
        r = manager_load_config(m);
        if (r < 0)
                log_fields(
                        LOG_WARNING, &f, "The configuration could not be read, the old one stays in force");
        else
                manager_restart_sources(m);
        manager_flush(m);
        notifier_ready(m->notifier);
        return r;
}

static void on_mounts(const MountTable *table, void *userdata) {
        Manager *m = userdata;

        for (size_t i = 0; i < m->n_overlays; i++)
                managed_update_mount(m->overlays[i], table);
}

/* Lifecycle. */

static void on_reaped(const char *tag, void *userdata) {
        Manager *m = userdata;
        Managed *o = manager_find_overlay(m, tag);

        manager_update_sources(m);
        log_info(
                "%s '%s' that hung in the kernel has ended",
                tag[0] == PROC_TAG_OF_ALL ? "A process of the source of heat" : "A worker for overlay",
                tag[0] == PROC_TAG_OF_ALL ? tag + 1 : tag);
        if (o) {
                managed_survey(o);
                source_update(&o->watching);
        }
        manager_wake(m);
}

static void on_idle(void *userdata) {
        Manager *m = userdata;

        if (m->host.is_stopping)
                (void) sd_event_exit(m->host.event, 0);
}

static void on_place(const char *tag, const char *path, bool begins, void *userdata) {
        const Managed *o = manager_find_overlay(userdata, tag);

        if (o)
                watching_look(o, path, begins);
}

static const ProcPoolHandler pool_handler = { .on_reaped = on_reaped,
                                              .on_place = on_place,
                                              .on_idle = on_idle };

static int manager_add_signal(Manager *m, int signal, sd_event_signal_handler_t func) {
        sigset_t set;

        (void) sigemptyset(&set);
        (void) sigaddset(&set, signal);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return -errno;
        return func ? sd_event_add_signal(m->host.event, NULL, signal, func, m) : 0;
}

static int manager_add_sources(Manager *m) {
        int r;

        if ((r = manager_add_signal(m, SIGTERM, on_terminate)) < 0 ||
            (r = manager_add_signal(m, SIGINT, on_terminate)) < 0 ||
            (r = manager_add_signal(m, SIGHUP, on_reload)) < 0 ||
            (r = manager_add_signal(m, SIGCHLD, NULL)) < 0)
                return r;
        if ((r = sd_event_add_defer(m->host.event, &m->work_source, on_work, m)) < 0 ||
            (r = sd_event_source_set_enabled(m->work_source, SD_EVENT_OFF)) < 0 ||
            (r = sd_event_add_time_relative(
                     m->host.event, &m->flush_source, CLOCK_MONOTONIC, FLUSH_USEC, USEC_PER_MSEC, on_flush,
                     m)) < 0)
                return r;
        (void) sd_event_source_set_description(m->work_source, "start-jobs");
        (void) sd_event_source_set_description(m->flush_source, "send-changes");
        return sd_event_source_set_enabled(m->flush_source, SD_EVENT_OFF);
}

static void on_saved(void *userdata) {
        manager_send_replies(userdata);
}

static int manager_init(Manager *m) {
        const char *worker = secure_getenv("OVLFIND_WORKER"), *state = getenv("STATE_DIRECTORY");
        int r;

        if ((r = sd_event_default(&m->host.event)) < 0 ||
            (r = sd_event_set_watchdog(m->host.event, true)) < 0 ||
            (r = notifier_new(m->host.event, &m->notifier)) < 0 || (r = config_folders(&m->folders)) < 0)
                return r;
        m->host.state_dir = strndup(state ?: "/var/lib/ovlfind", strcspn(state ?: "/var/lib/ovlfind", ":"));
        spread_machine(m->host.machine);
        m->queue = queue_new();
        manager_init_sources(m);
        m->runs = (Runs){ .host = &m->host, .events = &manager_run_events, .userdata = m };
        if (!m->host.state_dir || !m->queue)
                return -ENOMEM;
        if ((r = manager_add_sources(m)) < 0 ||
            (r = proc_pool_new(m->host.event, worker ?: WORKER_PATH, &pool_handler, m, &m->host.workers)) <
                    0 ||
            (r = state_writer_new(
                     m->host.event, m->host.state_dir, STATE_FILE_NAME, on_saved, m, &m->state_writer)) <
                    0 ||
            (r = state_writer_new(
                     m->host.event, m->host.state_dir, HEAT_FILE_NAME, NULL, NULL, &m->heat_writer)) < 0)
                return r;
        return query_pool_new(&m->host, &m->queries);
}

int manager_new(Manager **ret) {
        _cleanup_(manager_freep) Manager *m = calloc(1, sizeof(Manager));
        int r;

        if (!m)
                return -ENOMEM;
        r = manager_init(m);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(m);
        return 0;
}

Manager *manager_free(Manager *m) {
        if (!m)
                return NULL;
        m->host.is_stopping = true;
        m->queries = query_pool_free(m->queries);
        run_free_all(&m->runs);
        manager_free_sources(m);
        for (size_t i = 0; i < m->n_overlays; i++)
                (void) managed_free(m->overlays[i]);
        free(m->overlays);
        m->host.workers = proc_pool_free(m->host.workers);
        m->state_writer = state_writer_free(m->state_writer);
        m->heat_writer = state_writer_free(m->heat_writer);
        m->monitor = mount_monitor_free(m->monitor);
        m->notifier = notifier_free(m->notifier);
        m->queue = queue_free(m->queue);
        m->config = config_free(m->config);
        m->folders = strv_free(m->folders);
        m->changed_objects = strv_free(m->changed_objects);
        (void) sd_event_source_disable_unref(m->work_source);
        (void) sd_event_source_disable_unref(m->release_timer);
        (void) sd_event_source_disable_unref(m->flush_source);
        (void) sd_event_source_disable_unref(m->stop_timer);
        (void) sd_event_source_disable_unref(m->heat_timer);
        (void) sd_event_unref(m->host.event);
        free(m->host.state_dir);
        free(m);
        return NULL;
}

int manager_startup(Manager *m) {
        int r;

        /* Watch first, then look: a change in between is seen. */
        r = mount_monitor_new(m->host.event, on_mounts, m, &m->monitor);
        if (r < 0)
                return log_error_errno(r, "Cannot watch the mount table: %m");
        r = manager_load_config(m);
        if (r < 0)
                return r;
        manager_load_state(m);
        return 0;
}

void manager_is_named(Manager *m) {
        LogFields f = { .message_id = MESSAGE_DAEMON_READY };

        m->is_ready = true;
        log_fields(
                LOG_INFO, &f, "ovlfind %s is ready, %zu overlay%s configured", OVLFIND_VERSION,
                m->n_overlays, PLURAL(m->n_overlays));
        notifier_ready(m->notifier);
        manager_send_status(m);
}
