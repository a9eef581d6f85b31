/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/run.h"

#include <string.h>
#include <utlist.h>

#include "base/path-util.h"
#include "base/str.h"
#include "config/config.h"
#include "jobs/automatic.h"
#include "jobs/run-request.h"
#include "overlays/counters.h"
#include "overlays/keeper.h"
#include "overlays/managed.h"
#include "overlays/watching.h"
#include "process/proc.h"
#include "service/log.h"
#include "service/loop.h"
#include "service/messages.h"

#define NOTES_LOGGED_MAX 20 /* of one job; all others are in the job, or at level debug */

#define STALL_USEC (5 * USEC_PER_SEC) /* without getting on; then it is told */

struct Run {
        Run *next;
        Runs *all;
        Managed *overlay;
        Job *job;
        Proc *proc;
        uint64_t begun_usec; /* boot time */
        sd_event_source *stall_timer;
};

static void run_free(Run *run) {
        LL_DELETE(run->all->first, run);
        run->job->is_stalled = false;
        (void) sd_event_source_disable_unref(run->stall_timer);
        free(run);
}

static Run *run_find(const Runs *all, const Job *j) {
        Run *run = all->first;

        while (run && run->job != j)
                run = run->next;
        return run;
}

void run_free_all(Runs *all) {
        while (all->first)
                run_free(all->first);
}

static const char *job_method(const Job *j) {
        if (j->type == JOB_REMOUNT)
                return remount_method_to_string(j->options.remount);
        return j->options.method == METHOD_MARK || j->options.has_depth ? "mark" : "exchange";
}

static const struct {
        const char *message_id, *done;
} job_words[_JOB_TYPE_MAX] = {
        [JOB_FINALIZE] = { MESSAGE_FINALIZED, "Finalized" },
        [JOB_UNFINALIZE] = { MESSAGE_UNFINALIZED, "Unfinalized" },
        [JOB_REFRESH] = { MESSAGE_REFRESHED, "Refreshed" },
        [JOB_PRUNE] = { MESSAGE_PRUNED, "Pruned" },
        [JOB_VERIFY] = { MESSAGE_VERIFIED, "Verified" },
};

static void log_problems(const Job *j, const char *path) {
        if (j->type == JOB_VERIFY && j->n_errors > 0)
                log_fields(
                        LOG_WARNING, JOB_FIELDS(j, MESSAGE_PROBLEMS, path),
                        "%llu problem%s found in '%s'; 'ovlfinctl verify' lists them with what to do",
                        (unsigned long long) j->n_errors, PLURAL(j->n_errors), path);
}

static uint64_t job_duration(const Job *j) {
        return j->started_usec > 0 && j->finished_usec > j->started_usec ? j->finished_usec - j->started_usec
                                                                         : 0;
}

static void job_log_end(const Job *j) {
        _cleanup_free_ char *path = job_path(j);
        const char *type = job_type_to_string(j->type), *p = path ?: j->path;
        LogFields f = {
                .overlay = j->overlay,
                .path = path,
                .job = j->id,
                .entries = j->entries_done,
                .method = job_method(j),
                .duration_usec = job_duration(j),
                .error = j->failure.error,
        };

        if (j->state == JOB_FAILED) {
                f.message_id = MESSAGE_JOB_FAILED;
                log_fields(
                        LOG_WARNING, &f, "Job %u, %s of '%s', failed: %s", j->id, type, p,
                        j->failure.message ?: "no reason given");
        } else if (j->state == JOB_CANCELED && j->failure.error == FAILURE_ERROR_HELD) {
                log_fields(LOG_INFO, &f, "Job %u: %s", j->id, j->failure.message ?: "no reason given");
        } else if (j->state == JOB_CANCELED) {
                f.message_id = MESSAGE_JOB_CANCELED;
                log_fields(LOG_NOTICE, &f, "Job %u, %s of '%s', was canceled", j->id, type, p);
        } else if (j->options.is_dry_run) {
                log_fields(LOG_DEBUG, &f, "Job %u, dry run of %s of '%s', is done", j->id, type, p);
        } else if (j->type != JOB_REMOUNT) {
                f.message_id = job_words[j->type].message_id;
                log_fields(
                        LOG_NOTICE, &f, "%s '%s': %llu entr%s in %llu ms", job_words[j->type].done, p,
                        (unsigned long long) j->entries_done, PLURAL_Y(j->entries_done),
                        (unsigned long long) (job_duration(j) / USEC_PER_MSEC));
        }
        log_problems(j, p);
}

static void count_end(Managed *o, const Job *j) {
        unsigned result = j->state == JOB_DONE ? 0 : j->state == JOB_FAILED ? 1 : 2;
        uint64_t *n = o->counters.values;

        n[COUNTER_JOBS_DONE + result]++;
        if (j->type == JOB_REMOUNT && j->options.remount == REMOUNT_SWAP)
                n[COUNTER_SWAPS_DONE + result]++;
        n[COUNTER_DIRECTORIES_FINALIZED] += j->n_finalized;
        n[COUNTER_ENTRIES] += j->entries_done;
        n[COUNTER_BYTES] += j->bytes_copied;
        n[COUNTER_JOB_USEC] += job_duration(j);
}

static void run_conclude(Runs *all, Managed *o, Job *j, Failure *failure) {
        (void) job_finish(j, failure, loop_now(all->host->event, CLOCK_REALTIME));
        if (o && !j->options.is_dry_run)
                count_end(o, j);
        if (o && o->state == MANAGED_ACTIVE && j->needs_survey) /* otherwise one comes anyway */
                managed_survey(o);
        job_log_end(j);
        all->events->finished(j, all->userdata);
}

/* Ends the job; the run is gone afterwards. Takes the failure. */
static void run_finish(Run *run, Failure *failure) {
        Managed *o = run->overlay;
        Runs *all = run->all;
        Job *j = run->job;

        run_free(run);
        run_conclude(all, o, j, failure);
}

static int on_stall(sd_event_source *s, uint64_t usec, void *userdata) {
        Run *run = userdata;
        Job *j = run->job;
        _cleanup_free_ char *path = job_path(j);

        if (j->state == JOB_WAITING)
                return 0; /* it has said so */
        j->is_stalled = true;
        log_fields(
                LOG_WARNING, JOB_FIELDS(j, MESSAGE_JOB_STALLED, path),
                "Job %u, %s of '%s', does not get on: %s", j->id, job_type_to_string(j->type),
                path ?: j->path, job_doing(j));
        run->all->events->changed(j, run->all->userdata);
        return 0;
}

/* A worker tells how far it is also while all its threads hang: what counts is that it is further. */
static void run_note_life(Run *run) {
        int r = 0;

        run->job->is_stalled = false;
        if (!run->stall_timer)
                r = sd_event_add_time_relative(
                        run->all->host->event, &run->stall_timer, CLOCK_MONOTONIC, STALL_USEC, USEC_PER_SEC,
                        on_stall, run);
        else if ((r = sd_event_source_set_time_relative(run->stall_timer, STALL_USEC)) >= 0)
                r = sd_event_source_set_enabled(run->stall_timer, SD_EVENT_ONESHOT);
        if (r < 0)
                (void) log_error_errno(r, "Cannot set a deadline for job %u: %m", run->job->id);
}

/* For whom it waits, or that it goes on. */
static void run_take_wait(Run *run, const WireRecord *r) {
        Job *j = run->job;
        _cleanup_free_ char *path = job_path(j);
        const char *why = r->state == JOB_WAITING && r->lower_path[0] ? r->lower_path : NULL;

        if (why && !j->wait_reason)
                log_fields(
                        LOG_NOTICE, JOB_FIELDS(j, MESSAGE_JOB_NOTE, path), "Job %u, %s of '%s', waits: %s",
                        j->id, job_type_to_string(j->type), path ?: j->path, why);
        if (str_replace(&j->wait_reason, why) < 0)
                (void) log_oom();
}

static void run_take_progress(Run *run, const WireRecord *r) {
        Job *j = run->job;
        int k;

        run_take_wait(run, r);

        if (r->state != (uint32_t) j->state || r->entries_done != j->entries_done ||
            r->entries_total != j->entries_total || r->bytes != j->bytes_copied || r->state == JOB_WAITING ||
            !str_equal(r->text, j->doing ?: ""))
                run_note_life(run);
        if (str_replace(&j->doing, r->text[0] ? r->text : NULL) < 0)
                (void) log_oom();
        job_take_counters(j, r);
        if (r->state == JOB_RUNNING || r->state == JOB_APPLYING || r->state == JOB_WAITING) {
                k = job_set_state(j, (JobState) r->state, loop_now(run->all->host->event, CLOCK_REALTIME));
                if (k > 0 && r->state == JOB_WAITING)
                        run->all->events->wake(run->all->userdata);
                if (k < 0)
                        log_debug(
                                "Job %u cannot be %s now, ignoring", j->id,
                                job_state_to_string((JobState) r->state));
        }
        run->all->events->changed(j, run->all->userdata);
}

static void run_take_note(Run *run, const WireRecord *r) {
        Job *j = run->job;
        _cleanup_free_ char *path = path_join(j->mount_point, r->path),
                            *note = path ? str_format("%s: %s", path, r->text) : NULL;

        if (!note) {
                (void) log_oom();
                return;
        }
        log_fields(
                j->n_notes_seen < NOTES_LOGGED_MAX ? LOG_WARNING : LOG_DEBUG,
                JOB_FIELDS(j, MESSAGE_JOB_NOTE, path), "Job %u: '%s': %s", j->id, path, r->text);
        if (job_add_note(j, note) < 0)
                (void) log_oom();
        run->all->events->changed(j, run->all->userdata);
}

/* Who waits for the job finds the overlay as it is now. */
static void run_take_remount(Run *run, const WireRecord *r) {
        const char *method = remount_method_to_string(run->job->options.remount);
        LogFields f = {
                .message_id = MESSAGE_REMOUNTED,
                .overlay = run->job->overlay,
                .path = run->job->mount_point,
                .method = method,
                .job = run->job->id,
                .duration_usec = r->usec,
                .pause_usec = r->pause_usec,
        };

        log_fields(
                LOG_NOTICE, &f, "Remounted '%s' by %s in %llu ms, lookups paused for at most %llu us",
                run->job->mount_point, method, (unsigned long long) (r->usec / USEC_PER_MSEC),
                (unsigned long long) r->pause_usec);
        run->all->events->remounted(run->overlay, method, r->usec, run->all->userdata);
}

/* Whether watches would be in its way, or it opens files. An undo does neither, and may look again and again
 * whether it can begin. */
static bool pauses_watches(const Job *j) {
        return j->type != JOB_REMOUNT && j->type != JOB_UNFINALIZE && !j->options.is_dry_run &&
                (j->type != JOB_VERIFY || j->options.is_repair);
}

/* How long to wait before another attempt, when what keeps it from its work is likely to pass; 0: it is
 * over. reached: entries in what it was at, finished: in what it has brought to an end before. */
static uint64_t run_next_pause(Run *run, const Failure *failure, uint64_t reached, uint64_t finished) {
        uint64_t now = loop_now(run->all->host->event, CLOCK_BOOTTIME);
        Job *j = run->job;

        if (!job_may_wait(j, failure))
                return 0;
        if (job_is_held_up(j, failure))
                return job_held_pause(j);
        job_note_trouble(j, reached, finished > 0, run->begun_usec, now);
        return j->is_automatic ? automatic_pause(failure->kind, j->n_pauses + 1)
                               : job_next_pause(j, run->overlay->config->settings.retry_usec, now);
}

static void run_pause(Run *run, const Failure *failure, uint64_t pause) {
        const char *reason = failure->message ?: "no reason given";
        Runs *all = run->all;
        Managed *o = run->overlay;
        Job *j = run->job;
        _cleanup_free_ char *path = job_path(j);
        LogFields f = {
                .message_id = MESSAGE_JOB_PAUSED,
                .overlay = j->overlay,
                .path = path,
                .job = j->id,
                .error = failure->error,
        };
        bool is_told;

        is_told = job_is_held_up(j, failure) && str_equal(j->pause_reason, reason);
        log_fields(
                is_told ? LOG_DEBUG : LOG_NOTICE, &f, "Job %u, %s of '%s', is tried again in %llu s: %s",
                j->id, job_type_to_string(j->type), path ?: j->path,
                (unsigned long long) ((pause + USEC_PER_SEC - 1) / USEC_PER_SEC), reason);
        run_free(run);
        if (!str_equal(j->pause_reason, reason) && job_add_note(j, reason) < 0)
                (void) log_oom();
        if (job_pause(j, reason, loop_now(all->host->event, CLOCK_BOOTTIME) + pause) < 0)
                (void) log_oom();
        if (pauses_watches(j))
                watching_resume(o, j->path); /* it may wait for an hour */
        all->events->paused(j, all->userdata);
        all->events->wake(all->userdata);
        all->events->changed(j, all->userdata);
}

/* The end of a job that was tried again and again says so. */
static void tell_tries(const Job *j, uint64_t now, Failure *failure) {
        unsigned long long seconds = job_trouble_duration(j, now) / USEC_PER_SEC;
        char duration[48] = "", *text;

        if (j->n_pauses == 0 || failure->kind == FAILURE_NONE || failure->kind == FAILURE_CANCELED)
                return;
        if (j->trouble_usec > 0) /* what was held does not count as trouble */
                (void) snprintf(duration, sizeof(duration), " in %llu s", seconds);
        text = str_format(
                "%s (tried %u times%s)", failure->message ?: "no reason given", j->n_pauses + 1, duration);
        if (!text)
                return;
        free(failure->message);
        failure->message = text;
}

/* Nobody wants it to be tried again. */
static void set_canceled(Failure *failure) {
        _cleanup_failure_ Failure canceled = FAILURE_INIT;

        (void) failure_set(
                &canceled, FAILURE_CANCELED, ECANCELED, "canceled, instead of being tried again: %s",
                failure->message ?: "no reason given");
        failure_done(failure);
        failure_move(failure, &canceled);
}

/* Nothing has failed: automatic.c makes another job later. */
static void set_put_off(const Job *j, Failure *failure) {
        if (job_is_put_off(j, failure))
                failure->kind = FAILURE_CANCELED;
}

static void run_take_result(Run *run, const WireRecord *r) {
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        Job *j = run->job;
        uint64_t pause, reached = j->entries_done;

        (void) wire_result(r, &failure);
        job_take_counters(j, r);
        histogram_merge(&run->overlay->counters.answers, &r->answers);
        j->needs_survey = r->state > 0 || (j->needs_survey && failure.kind == FAILURE_BUSY);
        if (j->type == JOB_REMOUNT && failure.kind == FAILURE_NONE && !j->options.is_dry_run)
                run_take_remount(run, r);
        keeper_adopt(run->overlay, run->proc);
        /* One that failed half way is brought to an end by a survey. */
        if (j->type == JOB_REMOUNT && failure.kind != FAILURE_NONE && !j->options.is_dry_run)
                managed_survey(run->overlay);
        if (j->is_cancel_wanted && job_may_wait(j, &failure))
                set_canceled(&failure);
        pause = run_next_pause(run, &failure, reached, r->entries_done);
        if (pause > 0) {
                run_pause(run, &failure, pause);
                return;
        }
        set_put_off(j, &failure);
        tell_tries(j, loop_now(run->all->host->event, CLOCK_BOOTTIME), &failure);
        run_finish(run, &failure);
}

static void run_on_record(Proc *p, const WireRecord *r, void *userdata) {
        Run *run = userdata;

        switch (r->kind) {
        case WIRE_PROGRESS:
                run_take_progress(run, r);
                break;
        case WIRE_STEP:
        case WIRE_PROBLEM:
                if (job_add_step(run->job, r) < 0)
                        (void) log_oom();
                break;
        case WIRE_DIRECTORY:
                if (!run->job->options.is_dry_run && managed_learn(run->overlay, r) > 0)
                        run->job->n_finalized++;
                break;
        case WIRE_NOTE:
                run_take_note(run, r);
                break;
        case WIRE_RESULT:
                run_take_result(run, r);
                break;
        default:
                break;
        }
}

static void log_worker_death(const Run *run, int status, const char *consequence) {
        const Job *j = run->job;
        _cleanup_free_ char *path = job_path(j);

        log_fields(
                LOG_NOTICE, JOB_FIELDS(j, MESSAGE_WORKER_DIED, path),
                "The worker of job %u, %s of '%s', was killed by signal %i, attempt %u of %u; %s", j->id,
                job_type_to_string(j->type), path ?: j->path, status, j->n_attempts,
                (unsigned) JOB_ATTEMPTS_MAX, consequence);
}

/* Killed from outside, or crashed: what it had begun is in the staging journal, so a survey puts things in
 * order first. */
static void run_after_signal(Run *run, int status) {
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        Runs *all = run->all;
        Managed *o = run->overlay;
        Job *j = run->job;

        if (!all->host->is_stopping && !j->is_cancel_wanted)
                o->counters.values[COUNTER_WORKERS_DIED]++;
        if (all->host->is_stopping || j->is_cancel_wanted) {
                (void) failure_set(&failure, FAILURE_CANCELED, ECANCELED, "canceled");
                run_finish(run, &failure);
        } else if (job_may_retry(j)) {
                log_worker_death(run, status, "cleaning up and trying again");
                run_free(run);
                (void) job_set_state(j, JOB_QUEUED, loop_now(all->host->event, CLOCK_REALTIME));
                all->events->changed(j, all->userdata);
        } else {
                log_worker_death(run, status, "giving up");
                (void) failure_set(
                        &failure, FAILURE_FAILED, EIO,
                        "the worker was killed by signal %i in each of %u attempts; see the journal", status,
                        j->n_attempts);
                run_finish(run, &failure);
        }
        managed_survey(o);
}

/* A swap that had to wait begins anew: the overlay may be another one now. */
static void run_again(Run *run) {
        Runs *all = run->all;
        Job *j = run->job;

        run_free(run);
        (void) job_set_state(j, JOB_QUEUED, loop_now(all->host->event, CLOCK_REALTIME));
        j->n_attempts = 0;
        all->events->changed(j, all->userdata);
        all->events->wake(all->userdata);
}

static void run_on_end(Proc *p, ProcEnd end, int status, void *userdata) {
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        Run *run = userdata;
        Managed *o = run->overlay;

        if (end == PROC_SIGNALED) {
                run_after_signal(run, status);
                return;
        }
        if (end == PROC_EXITED && status == WORKER_EXIT_AGAIN && run->job->state == JOB_WAITING) {
                if (!run->job->is_cancel_wanted) {
                        run_again(run);
                        return;
                }
                (void) failure_set(&failure, FAILURE_CANCELED, ECANCELED, "canceled while it waited");
        } else if (end == PROC_UNMOUNTED)
                (void) failure_set(
                        &failure, FAILURE_NOT_MANAGED, ENOENT, "'%s' was unmounted", o->config->mount_point);
        else if (end == PROC_EXITED)
                (void) failure_set(
                        &failure, FAILURE_FAILED, EIO,
                        "the worker ended with exit status %i before the job was done; see the journal",
                        status);
        else if (run->job->is_cancel_wanted)
                (void) failure_set(
                        &failure, FAILURE_CANCELED, ECANCELED, "canceled; its worker hangs in the kernel");
        else
                (void) failure_set(
                        &failure, FAILURE_LOWER_UNREACHABLE, EHOSTUNREACH,
                        "the worker hangs in the kernel; see whether the server of the lower layers "
                        "answers");
        run_finish(run, &failure);
        /* A hanging worker still owns what it began; the survey follows when it has ended. */
        if (end == PROC_EXITED)
                managed_survey(o);
}

static const ProcHandler run_handler = { .on_record = run_on_record, .on_end = run_on_end };

static int run_spawn(Run *run) {
        _cleanup_(wire_request_done) WireRequest q = { 0 };

        run_make_request(run->overlay, run->job, &q);
        return proc_spawn(run->all->host->workers, run->job->overlay, &q, &run_handler, run, &run->proc);
}

static void pause_watches(const Run *run) {
        const Job *j = run->job;

        if (pauses_watches(j))
                watching_pause(
                        run->overlay, j->path,
                        j->type == JOB_FINALIZE && run_wants_parents(run->overlay, j));
}

void run_pause_all_watches(const Runs *all, const Managed *o) {
        for (const Run *run = all->first; run; run = run->next)
                if (run->overlay == o)
                        pause_watches(run);
}

void run_start(Runs *all, Managed *o, Job *j) {
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        Run *run = malloc(sizeof(Run));
        int r = -ENOMEM;

        (void) job_set_state(j, JOB_RUNNING, loop_now(all->host->event, CLOCK_REALTIME));
        if (!run) {
                (void) failure_set_errno(&failure, r, "cannot start a worker");
                run_conclude(all, o, j, &failure);
                return;
        }
        *run = (Run){ .next = all->first,
                      .all = all,
                      .overlay = o,
                      .job = j,
                      .begun_usec = loop_now(all->host->event, CLOCK_BOOTTIME) };
        all->first = run;
        o->has_worked = true;
        pause_watches(run);
        r = run_spawn(run);
        if (r < 0) {
                (void) failure_set(&failure, FAILURE_FAILED, -r, "cannot start a worker: %s", strerror(-r));
                run_finish(run, &failure);
                return;
        }
        run_note_life(run);
        all->events->changed(j, all->userdata);
}

void run_cancel(Runs *all, Managed *o, Job *j) {
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        Run *run = run_find(all, j);

        j->is_cancel_wanted = true;
        if (run) {
                proc_cancel(run->proc);
                return;
        }
        (void) failure_set(
                &failure, FAILURE_CANCELED, ECANCELED,
                j->started_usec > 0 ? "canceled before it was tried again"
                                    : "canceled before it was started");
        run_conclude(all, o, j, &failure);
}

void run_abort(Runs *all, Managed *o, Job *j, Failure *failure) {
        Run *run = run_find(all, j);

        if (run) {
                (void) proc_free(run->proc);
                run_free(run);
        }
        run_conclude(all, o, j, failure);
}
