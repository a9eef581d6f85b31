/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Finalized directories are compared with the lower layers now and then, slowly, by a worker beside the
 * queue. What it finds becomes a state, and a job where OnLowerChange= and OnLowerRemoved= say so. Nothing
 * is compared here. managed_schedule_compare() is the only way in which a comparison begins. */
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "overlays/managed.h"
#include "service/log.h"
#include "service/loop.h"
#include "service/messages.h"

#define FIRST_USEC (3 * USEC_PER_SEC) /* after a survey: those who start the overlay come first */
#define INTERVAL_USEC (60 * 60 * USEC_PER_SEC)
#define ENTRIES_PER_SECOND 1000 /* a fraction of what a user's `ls -lR` asks of a server */

static bool has_finalized(const Managed *o) {
        return directory_table_count(o->directories, DIRECTORY_FINALIZED) > 0 ||
                directory_table_count(o->directories, DIRECTORY_STALE) > 0 ||
                directory_table_count(o->directories, DIRECTORY_GONE) > 0;
}

static void act(Managed *o, JobType type, const char *path) {
        /* What a job for a directory above takes along counts as tried. */
        if (directory_table_try(o->directories, path, loop_now(o->host->event, CLOCK_BOOTTIME)))
                o->events->lower_changed(o, type, path);
}

static void take_directory(Managed *o, const WireRecord *r) {
        const Settings *s = &o->config->settings;

        if (managed_learn(o, r) < 0 || o->is_paused || o->host->is_paused)
                return;
        if (r->state == DIRECTORY_STALE && s->on_lower_change == LOWER_CHANGE_REFRESH)
                act(o, JOB_REFRESH, r->path);
        else if (r->state == DIRECTORY_GONE && s->on_lower_removed == LOWER_REMOVED_PRUNE)
                act(o, JOB_PRUNE, r->path);
}

/* Once, until it is another number. */
static void tell_problems(Managed *o, uint64_t n) {
        if (n > 0 && n != o->n_problems)
                log_fields(
                        LOG_WARNING, MANAGED_FIELDS(o, MESSAGE_PROBLEMS),
                        "%llu problem%s found in '%s'; 'ovlfinctl verify %s' lists them with what to do",
                        (unsigned long long) n, PLURAL(n), o->config->mount_point, o->config->name);
        o->n_problems = n;
}

/* Once, until it is another reason. */
static void tell_unproved(Managed *o, const char *reason) {
        if (str_equal(o->unproved, reason))
                return;
        if (reason)
                log_warning(
                        "Cannot compare overlay '%s' with its lower layers, and will not refresh or prune "
                        "anything: %s",
                        o->config->name, reason);
        else
                log_info("Overlay '%s' is compared with its lower layers again", o->config->name);
        (void) str_replace(&o->unproved, reason);
        o->events->changed(o);
}

static void take_result(Managed *o, const WireRecord *r) {
        if (failure_kind_from_string(r->name) == FAILURE_LOWER_UNPROVED) {
                tell_unproved(o, r->text);
                return;
        }
        if (r->error != 0) {
                log_warning(
                        "Cannot compare overlay '%s' with its lower layers: %s", o->config->name, r->text);
                return;
        }
        tell_unproved(o, NULL);
        if (!o->has_worked) /* what a job has half done is no problem */
                tell_problems(o, r->errors);
        log_debug("Overlay '%s' was compared with its lower layers", o->config->name);
}

static void on_record(Proc *p, const WireRecord *r, void *userdata) {
        Managed *o = userdata;

        if (r->kind == WIRE_DIRECTORY)
                take_directory(o, r);
        else if (r->kind == WIRE_NOTE)
                log_debug("Overlay '%s', '%s': %s", o->config->name, r->path, r->text);
        else if (r->kind == WIRE_PROBLEM)
                log_debug("Overlay '%s', '%s': %s: %s", o->config->name, r->path, r->name, r->text);
        else if (r->kind == WIRE_RESULT)
                take_result(o, r);
}

static void on_end(Proc *p, ProcEnd end, int status, void *userdata) {
        Managed *o = userdata;

        o->compare = NULL;
        managed_schedule_compare(o, o->is_proof_wanted ? 0 : INTERVAL_USEC);
}

static const ProcHandler handler = { .on_record = on_record, .on_end = on_end };

static void compare(Managed *o) {
        _cleanup_(wire_request_done) WireRequest q = { 0 };
        int r;

        if (o->compare || o->host->is_stopping)
                return;
        o->is_proof_wanted = false;
        if (o->state != MANAGED_ACTIVE || !has_finalized(o)) {
                managed_schedule_compare(o, INTERVAL_USEC);
                return;
        }
        o->has_worked = o->events->is_at_work(o);
        managed_make_request(o, JOB_COMPARE, "", &q);
        if (o->config->settings.entries_per_second == UINT64_MAX)
                wire_request_add_number(&q, WIRE_RATE, ENTRIES_PER_SECOND);
        r = proc_spawn(o->host->workers, o->config->name, &q, &handler, o, &o->compare);
        if (r < 0)
                (void) log_warning_errno(r, "Cannot compare overlay '%s', ignoring: %m", o->config->name);
}

/* Whether one is to begin earlier than in so long. */
static bool is_scheduled_within(const Managed *o, uint64_t usec) {
        uint64_t time;

        return o->compare_timer && sd_event_source_get_enabled(o->compare_timer, NULL) > 0 &&
                sd_event_source_get_time(o->compare_timer, &time) >= 0 &&
                time < loop_now(o->host->event, CLOCK_MONOTONIC) + usec;
}

/* When many hosts have booted, or were given another version of the daemon, they do not ask the server at
 * once either. One survey after the other does not put it off for ever. */
void managed_schedule_first_compare(Managed *o) {
        uint64_t delay = spread_delay(
                o->host->machine, o->config->name, "", o->config->settings.randomized_delay_usec);
        _cleanup_free_ char *when = NULL;

        if (delay > 0 && is_scheduled_within(o, FIRST_USEC + delay))
                return;
        managed_schedule_compare(o, FIRST_USEC + delay);
        when = delay > 0 ? clock_format(loop_now(o->host->event, CLOCK_REALTIME) + FIRST_USEC + delay)
                         : NULL;
        if (when)
                log_info(
                        "Overlay '%s' is compared with its lower layers at %s (RandomizedDelaySec=)",
                        o->config->name, when);
}

static int on_time(sd_event_source *s, uint64_t usec, void *userdata) {
        compare(userdata);
        return 0;
}

void managed_schedule_compare(Managed *o, uint64_t usec) {
        o->compare_timer = sd_event_source_disable_unref(o->compare_timer);
        (void) sd_event_add_time_relative(
                o->host->event, &o->compare_timer, CLOCK_MONOTONIC, usec > 0 ? usec : FIRST_USEC,
                USEC_PER_SEC / 2, on_time, o);
}

/* Once until it is asked: a mount table that never rests must not put it off for ever. */
void managed_want_proof(Managed *o) {
        if (!o->unproved || o->is_proof_wanted)
                return;
        o->is_proof_wanted = true;
        if (!o->compare)
                managed_schedule_compare(o, /* usec= */ 0);
}
