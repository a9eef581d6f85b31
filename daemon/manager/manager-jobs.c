/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The part of the manager that is about jobs: which are made, joined, started, put off, canceled and
 * remembered. What a job does is run.c's and the worker's, which one is next the queue's. The list of
 * unfinished jobs is written after each change, but not while the daemon ends: those jobs go on with the
 * next one. */
#include <string.h>

#include "base/path-util.h"
#include "bus/emit.h"
#include "jobs/automatic.h"
#include "jobs/state.h"
#include "manager/manager.h"
#include "overlays/heat-state.h"
#include "service/log.h"
#include "service/loop.h"
#include "service/messages.h"

/* After an attempt to set Options= that failed: who unmounted what stood in the way should not wait for
 * long, and the journal should not be filled. */
#define OPTIONS_RETRY_USEC (600 * USEC_PER_SEC)

static void on_job_finished(Job *j, void *userdata) {
        Manager *m = userdata;
        Managed *o = manager_find_overlay(m, j->overlay);
        Job *expired;

        m->is_manager_changed = m->is_state_changed = true;
        manager_job_changed(m, j);
        manager_send_replies(m);
        manager_flush(m);
        bus_send_job_removed(m->bus, j->id, j->state);
        if (o && !j->options.is_dry_run)
                automatic_job_ended(o, j);
        queue_trim_plans(m->queue);
        while ((expired = queue_expire(m->queue))) {
                bus_forget_job(m->bus, expired->id);
                (void) job_free(expired);
        }
        manager_wake(m);
}

static void manager_abort_job(Manager *m, Job *j, FailureKind kind, const char *reason) {
        _cleanup_failure_ Failure failure = FAILURE_INIT;

        (void) failure_set(&failure, kind, ENOENT, "overlay '%s': %s", j->overlay, reason);
        run_abort(&m->runs, manager_find_overlay(m, j->overlay), j, &failure);
}

/* The first unfinished one of an overlay. */
static Job *find_unfinished(const Manager *m, const Managed *o, bool spare_remounts) {
        QUEUE_FOREACH (j, m->queue)
                if (!job_state_is_final((*j)->state) && strcmp((*j)->overlay, o->config->name) == 0 &&
                    !(spare_remounts && (*j)->type == JOB_REMOUNT))
                        return *j;
        return NULL;
}

/* A remount may repair what an overlay is refused for, as long as there is one. */
void manager_fail_jobs(Managed *o, FailureKind kind, const char *reason) {
        Manager *m = o->userdata;
        bool spare_remounts = kind != FAILURE_NOT_MANAGED && o->overlay && o->state == MANAGED_REFUSED;
        Job *j;

        while ((j = find_unfinished(m, o, spare_remounts)))
                manager_abort_job(m, j, kind, reason);
}

static int manager_queue_job(
        Manager *m,
        JobType type,
        Managed *o,
        const char *path,
        const JobOptions *options,
        const double *heat, /* of an automatic one */
        Job **ret) {
        _cleanup_(job_freep) Job *j = NULL;
        int r;

        r = job_new(m->last_job_id + 1, type, o->config->name, o->config->mount_point, path, &j);
        if (r < 0)
                return r;
        r = job_set_options(j, options);
        if (r < 0)
                return r;
        j->is_automatic = heat != NULL;
        j->heat = heat ? *heat : 0;
        j->queued_usec = loop_now(m->host.event, CLOCK_REALTIME);
        r = queue_add(m->queue, j);
        if (r < 0)
                return r;
        m->last_job_id++;
        m->is_manager_changed = m->is_state_changed = true;
        bus_announce_job(m->bus, j->id);
        manager_schedule_flush(m);
        manager_wake(m);
        *ret = TAKE_PTR(j);
        return 0;
}

/* One user's jobs do not keep others waiting for ever. */
static int manager_check_room(const Manager *m, uid_t uid, const char *path, Failure *reterr) {
        if (queue_count_unfinished(m->queue) >= QUEUE_UNFINISHED_MAX)
                return failure_set(
                        reterr, FAILURE_BUSY, EBUSY,
                        "%u jobs are waiting already, ask for '%s' when some of them are done",
                        (unsigned) QUEUE_UNFINISHED_MAX, path);
        if (uid != 0 && queue_count_unfinished_of(m->queue, uid) >= QUEUE_UNFINISHED_PER_USER_MAX)
                return failure_set(
                        reterr, FAILURE_BUSY, EBUSY,
                        "%u jobs of yours are not done yet, which is as many as one user may have; ask for "
                        "'%s' when some of them are done, or name a directory above all of them",
                        (unsigned) QUEUE_UNFINISHED_PER_USER_MAX, path);
        return 0;
}

/* Who asks for what waits already gets that job. One that is put off is tried at once, as a new one would
 * be. */
static void manager_join_job(Manager *m, Managed *o, Job *j, const JobOptions *options) {
        if (job_is_unasked(j) && !options->is_unasked)
                j->options.uid = options->uid;
        j->is_automatic = false;
        j->options.is_unasked &= options->is_unasked;
        j->trouble_usec = 0;
        if (j->not_before_usec > 0)
                j->not_before_usec = loop_now(m->host.event, CLOCK_BOOTTIME);
        m->is_state_changed = o->is_heat_changed = true;
        manager_job_changed(m, j);
        manager_wake(m);
}

static int manager_take_job(
        Manager *m,
        JobType type,
        Managed *o,
        const char *path,
        const JobOptions *options,
        Job **ret,
        Failure *reterr) {
        _cleanup_free_ char *absolute = path_join(o->config->mount_point, path);
        Job *j = queue_find_equal(m->queue, type, o->config->name, path, options);
        int r = 0;

        if (m->host.is_stopping)
                return failure_set(reterr, FAILURE_CANCELED, ECANCELED, "the daemon is ending");
        if (!j || j->is_automatic)
                r = manager_check_room(m, options->uid, absolute ?: path, reterr);
        if (r < 0)
                return r;
        if (j) {
                manager_join_job(m, o, j, options);
                *ret = j;
                return 0;
        }
        r = manager_queue_job(m, type, o, path, options, /* heat= */ NULL, ret);
        return r < 0 ? failure_set_errno(reterr, r, "cannot make a job for '%s'", absolute ?: path) : 0;
}

int manager_add_job(
        Manager *m, JobType type, const char *path, const JobOptions *options, Job **ret, Failure *reterr) {
        _cleanup_free_ char *relative = NULL;
        Managed *o;
        int r;

        r = manager_find_path(m, path, &o, &relative, reterr);
        if (r >= 0)
                r = managed_check_usable(o, path, reterr);
        return r < 0 ? r : manager_take_job(m, type, o, relative, options, ret, reterr);
}

int manager_add_remount(
        Manager *m, const char *overlay, const JobOptions *options, Job **ret, Failure *reterr) {
        Managed *o = manager_get_overlay(m, overlay, reterr);
        int r;

        if (!o)
                return -ENOENT;
        r = managed_check_remountable(o, reterr);
        if (r >= 0 && options->set)
                r = overlay_has_options(o->overlay, options->set, reterr);
        return r < 0 ? r : manager_take_job(m, JOB_REMOUNT, o, "", options, ret, reterr);
}

static int manager_add_automatic_job(Manager *m, Managed *o, const char *path, double heat) {
        static const JobOptions options = { 0 };
        Job *j;

        if (queue_count_unfinished(m->queue) >= QUEUE_UNFINISHED_MAX)
                return -EBUSY;
        return manager_queue_job(m, JOB_FINALIZE, o, path, &options, &heat, &j);
}

/* Jobs that wait for a directory below path, and that nobody has asked for: the new one does their work. */
static void absorb_below(Manager *m, Managed *o, const char *path) {
        Job *j;

        while ((j = queue_find_automatic_below(m->queue, o->config->name, path))) {
                _cleanup_failure_ Failure failure = FAILURE_INIT;

                (void) failure_set(
                        &failure, FAILURE_CANCELED, ECANCELED, "a job for '%s/%s' does this as well",
                        o->config->mount_point, path);
                run_abort(&m->runs, o, j, &failure);
        }
}

static void manager_make_automatic_jobs(Manager *m, const Candidates *c) {
        Managed *o = c->overlay;
        unsigned n = queue_count_automatic(m->queue, o->config->name);

        for (size_t i = 0; i < c->paths.n && n < AUTOMATIC_AT_ONCE; i++) {
                int r;

                if (candidates_have_above(c, i))
                        continue;
                absorb_below(m, o, c->paths.items[i]);
                r = manager_add_automatic_job(m, o, c->paths.items[i], c->heats[i]);
                if (r < 0) {
                        (void) log_warning_errno(
                                r, "Cannot make a job for '%s/%s': %m", o->config->mount_point,
                                c->paths.items[i]);
                        return;
                }
                n++;
        }
}

static void manager_find_hot(Manager *m, Managed *o) {
        _cleanup_(candidates_done) Candidates c;

        automatic_find(o, m->queue, &c);
        manager_make_automatic_jobs(m, &c);
        automatic_set_timer(o, &c);
}

static int on_release(sd_event_source *s, uint64_t usec, void *userdata) {
        Manager *m = userdata;
        Job *j;

        while ((j = queue_release(m->queue, loop_now(m->host.event, CLOCK_BOOTTIME)))) {
                manager_job_changed(m, j);
                if (j->needs_survey)
                        managed_survey(manager_find_overlay(m, j->overlay));
        }
        manager_wake(m);
        return 0;
}

/* For the first of the jobs that are put off. */
static void set_release_timer(Manager *m) {
        uint64_t usec = queue_next_release(m->queue);
        int r;

        m->release_timer = sd_event_source_disable_unref(m->release_timer);
        if (usec == USEC_INFINITY)
                return;
        r = sd_event_add_time(
                m->host.event, &m->release_timer, CLOCK_BOOTTIME, usec, USEC_PER_SEC / 4, on_release, m);
        if (r < 0)
                (void) log_error_errno(r, "Cannot set a time to try jobs again: %m");
}

static void spread_automatic_jobs(Manager *m, Managed *o) {
        QUEUE_FOREACH (j, m->queue)
                if (automatic_spread(o, *j))
                        manager_job_changed(m, *j);
}

void manager_start_jobs(Manager *m) {
        Job *j;

        if (m->host.is_stopping)
                return;
        for (size_t i = 0; i < m->n_overlays; i++) {
                Managed *o = m->overlays[i];

                if (o->is_heat_changed) {
                        o->is_heat_changed = false;
                        manager_find_hot(m, o);
                }

                if (queue_admit(
                            m->queue, o->config->name,
                            (QueueAdmission){
                                    .jobs = managed_is_open(o) && !m->host.is_paused,
                                    .remounts = managed_is_remountable(o) && !m->host.is_paused,
                                    .automatic = automatic_is_open(o),
                            }) < 0)
                        (void) log_oom();
                spread_automatic_jobs(m, o);
        }
        while ((j = queue_next(m->queue))) {
                Managed *o = manager_find_overlay(m, j->overlay);

                run_start(&m->runs, o, j);
                m->is_state_changed = true;
        }
        set_release_timer(m);
        manager_save_state(m);
}

int manager_cancel_job(Manager *m, uint32_t id, Failure *reterr) {
        Job *j = queue_find(m->queue, id);

        if (!j)
                return failure_set(reterr, FAILURE_NO_SUCH_JOB, ENOENT, "there is no job %u", id);
        if (job_state_is_final(j->state))
                return failure_set(
                        reterr, FAILURE_NO_SUCH_JOB, ESRCH, "job %u is %s already, nothing to cancel", id,
                        job_state_to_string(j->state));
        run_cancel(&m->runs, manager_find_overlay(m, j->overlay), j);
        return 0;
}

int manager_set_paused(Manager *m, const char *overlay, bool is_paused, Failure *reterr) {
        Managed *o;

        if (overlay[0] == '\0') {
                m->host.is_paused = is_paused;
                m->is_manager_changed = true;
        } else {
                o = manager_get_overlay(m, overlay, reterr);
                if (!o)
                        return -ENOENT;
                o->is_paused = is_paused;
                manager_overlay_changed(o);
        }
        manager_flush(m);
        manager_wake(m);
        return 0;
}

/* Once the daemon is stopping the list stays as it was: jobs that are cancelled by that go on with the next
 * one. */
void manager_save_state(Manager *m) {
        if (!m->is_state_changed || !m->is_ready || m->host.is_stopping)
                return;
        m->is_state_changed = false;
        state_writer_write(m->state_writer, state_format(m->last_job_id, m->queue));
}

static int on_heat_time(sd_event_source *s, uint64_t usec, void *userdata) {
        Manager *m = userdata;

        m->heat_timer = sd_event_source_disable_unref(m->heat_timer);
        manager_save_heat(m);
        return 0;
}

void manager_used(Managed *o, const char *path, const Use *use) {
        Manager *m = o->userdata;

        counters_use(&o->counters, use, loop_now(o->host->event, CLOCK_MONOTONIC));
        if (automatic_take_heat(o, m->queue, path, use)) {
                o->is_heat_changed = true;
                manager_wake(m);
        }
        if (!m->heat_timer &&
            sd_event_add_time_relative(
                    m->host.event, &m->heat_timer, CLOCK_MONOTONIC, HEAT_SAVE_USEC, HEAT_SAVE_USEC / 2,
                    on_heat_time, m) < 0)
                (void) log_oom();
}

void manager_save_heat(Manager *m) {
        state_writer_write(
                m->heat_writer,
                heat_state_format(m->overlays, m->n_overlays, loop_now(m->host.event, CLOCK_REALTIME)));
}

static void on_saved_heat(const SavedHeat *s, void *userdata) {
        Managed *o = manager_find_overlay(userdata, s->overlay);

        if (o && heat_table_restore(o->heat, s->path, s->opens, s->misses, s->n_opens, s->usec) < 0)
                (void) log_oom();
}

/* For the overlay it was made for, and unless it took the daemon along again and again. */
static bool saved_job_can_go_on(const Manager *m, const SavedJob *s) {
        const Managed *o = manager_find_overlay(m, s->overlay);

        return s->can_go_on && s->n_attempts < JOB_ATTEMPTS_MAX && o &&
                strcmp(o->config->mount_point, s->mount_point) == 0;
}

static void resume_job(Job *j, const SavedJob *s) {
        _cleanup_free_ char *path = job_path(j);

        j->options.uid = s->uid;
        j->n_attempts = s->n_attempts;
        log_fields(
                LOG_NOTICE, JOB_FIELDS(j, MESSAGE_JOB_RESUMED, path),
                "Job %u, %s of '%s', goes on where the last daemon left it", j->id,
                job_type_to_string(j->type), path ?: j->path);
}

/* Readable as one that failed, so that nobody waits for it in vain. */
static void interrupt_job(Manager *m, Job *j) {
        _cleanup_failure_ Failure failure = FAILURE_INIT;

        (void) failure_set(
                &failure, FAILURE_FAILED, EINTR,
                "interrupted: the daemon ended before the job did; what had been begun is put in order, ask "
                "again for the rest");
        run_abort(&m->runs, manager_find_overlay(m, j->overlay), j, &failure);
}

/* A job the last daemon did not finish. */
static void on_saved_job(const SavedJob *s, void *userdata) {
        _cleanup_(job_freep) Job *j = NULL;
        Manager *m = userdata;

        if (job_new(s->id, s->type, s->overlay, s->mount_point, s->path, &j) < 0) {
                (void) log_oom();
                return;
        }
        j->queued_usec = s->queued_usec;
        if (saved_job_can_go_on(m, s))
                resume_job(j, s);
        else
                interrupt_job(m, j);
        if (queue_add(m->queue, j) < 0)
                (void) log_oom();
        else
                (void) TAKE_PTR(j);
}

void manager_load_state(Manager *m) {
        int r;

        r = state_load(m->host.state_dir, on_saved_job, m, &m->last_job_id);
        if (r == -EBADMSG)
                log_warning(
                        "The list of jobs in '%s' cannot be read; moved aside, going on without",
                        m->host.state_dir);
        else if (r < 0 && r != -ENOENT)
                (void) log_warning_errno(
                        r, "Cannot read the list of jobs in '%s', ignoring: %m", m->host.state_dir);
        m->is_state_changed = true;
        r = heat_state_load(m->host.state_dir, on_saved_heat, m);
        if (r == -EBADMSG)
                log_warning(
                        "The heat of directories in '%s' cannot be read; moved aside, it is found out anew",
                        m->host.state_dir);
        else if (r < 0 && r != -ENOENT)
                (void) log_warning_errno(r, "Cannot read the heat in '%s', ignoring: %m", m->host.state_dir);
}

static bool managed_lacks_options(const Managed *o) {
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        const char *wanted = o->config->settings.remount_options;
        int r;

        if (!wanted || !o->overlay)
                return false;
        r = overlay_has_options(o->overlay, wanted, &failure);
        if (r < 0)
                log_warning(
                        "Overlay '%s': Options=%s in [Remount] cannot be used, ignoring: %s",
                        o->config->name, wanted, failure.message ?: strerror(-r));
        return r == 0;
}

void manager_want_options(Managed *o) {
        Manager *m = o->userdata;
        const JobOptions options = { .remount = REMOUNT_SWAP, .set = o->config->settings.remount_options };
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        uint64_t now = loop_now(o->host->event, CLOCK_MONOTONIC);
        Job *j;

        if ((o->options_tried_usec > 0 && now < o->options_tried_usec + OPTIONS_RETRY_USEC) ||
            queue_has_remount(m->queue, o->config->name) || !managed_lacks_options(o))
                return;
        o->options_tried_usec = now;
        if (manager_add_remount(m, o->config->name, &options, &j, &failure) < 0)
                log_warning(
                        "Overlay '%s' lacks options of [Remount] and cannot be swapped: %s", o->config->name,
                        failure.message ?: "no reason given");
        else
                log_info(
                        "Overlay '%s' is to be swapped, as it lacks one of Options=%s: job %u",
                        o->config->name, options.set, j->id);
}

/* One job for a directory and all below it: the comparison names parents first. */
void manager_lower_changed(Managed *o, JobType type, const char *path) {
        Manager *m = o->userdata;
        _cleanup_free_ char *absolute = path_join(o->config->mount_point, path);
        _cleanup_failure_ Failure f = FAILURE_INIT;
        const JobOptions options = { .is_unasked = true };
        Job *j;

        if (!absolute || queue_find_job_at(m->queue, o->config->name, path))
                return;
        if (manager_add_job(m, type, absolute, &options, &j, &f) < 0)
                log_warning(
                        "Cannot %s '%s': %s", job_type_to_string(type), absolute,
                        f.message ?: "no reason given");
}

/* What runs tell. */

static void on_job_changed(Job *j, void *userdata) {
        manager_job_changed(userdata, j);
}

static void on_job_paused(Job *j, void *userdata) {
        Manager *m = userdata;

        m->is_state_changed = true;
}

/* The kernel tells of the change too, but perhaps after somebody has asked. */
static void on_remounted(Managed *o, const char *method, uint64_t usec, void *userdata) {
        Manager *m = userdata;

        mount_monitor_tell(m->monitor);
        /* Watches have died and do not tell. */
        if (strcmp(method, "swap") == 0)
                source_restart(&o->watching);
        else
                watching_rearm(o);
        bus_send_remounted(m->bus, o->config->name, method, usec);
}

static void on_wake(void *userdata) {
        manager_wake(userdata);
}

const RunEvents manager_run_events = {
        .changed = on_job_changed,
        .paused = on_job_paused,
        .finished = on_job_finished,
        .remounted = on_remounted,
        .wake = on_wake,
};
