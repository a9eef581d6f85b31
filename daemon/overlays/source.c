/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "overlays/source.h"

#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "service/log.h"
#include "service/loop.h"

#define PAUSE_FIRST_USEC (5 * USEC_PER_SEC) /* between one that died and the next one */
#define PAUSE_LAST_USEC (300 * USEC_PER_SEC)
#define HEALTHY_USEC (300 * USEC_PER_SEC) /* one that has lived so long was no failure */
#define STUCK_MOST 4                      /* at overlays that are left out since then */

static const char *const state_names[_SOURCE_STATE_MAX] = { "off",    "starting", "on",
                                                            "partly", "stalled",  "refused" };

const char *source_state_to_string(SourceState s) {
        return state_names[s];
}

static void set_state(Source *s, SourceState state, const char *reason) {
        if (s->state == state && str_equal(s->reason, reason))
                return;
        s->state = state;
        if (s->counts_usec == 0 && (state == SOURCE_ON || state == SOURCE_PARTLY))
                s->counts_usec = loop_now(s->host->event, CLOCK_MONOTONIC);
        (void) str_replace(&s->reason, reason);
        s->kind->changed(s);
}

static void warn(Source *s, SourceState state, const char *reason) {
        if (s->state != state || !str_equal(s->reason, reason))
                s->kind->log(s, state, reason);
        set_state(s, state, reason);
}

static void set_timer(Source *s, uint64_t usec, sd_event_time_handler_t func) {
        int r;

        s->timer = sd_event_source_disable_unref(s->timer);
        r = sd_event_add_time_relative(
                s->host->event, &s->timer, CLOCK_MONOTONIC, usec, USEC_PER_SEC / 2, func, s);
        if (r < 0)
                (void) log_error_errno(
                        r, "Cannot set a time for what %s of '%s': %m", s->kind->does, s->tag);
}

static int on_silence(sd_event_source *source, uint64_t usec, void *userdata) {
        _cleanup_free_ char *why = NULL;
        Source *s = userdata;

        s->timer = sd_event_source_disable_unref(s->timer);
        why = s->waits_for && s->kind->leave_out
                ? str_format(
                          "the process that %s gets no answer from overlay '%s'; see whether its lower "
                          "layers "
                          "answer",
                          s->kind->does, s->waits_for)
                : str_format("the process that %s gets no answer; %s", s->kind->does, s->kind->silence);
        warn(s, SOURCE_STALLED, why ?: "no answer");
        if (s->proc)
                proc_kill(s->proc);
        if (s->waits_for && s->kind->leave_out)
                s->kind->leave_out(s, s->waits_for);
        return 0;
}

static void take_status(Source *s, const WireRecord *r) {
        if (r->state == WATCH_BUSY)
                set_timer(s, WATCH_PATIENCE_USEC, on_silence);
        else
                s->timer = sd_event_source_disable_unref(s->timer);
        (void) str_replace(&s->waits_for, r->state == WATCH_BUSY && r->path[0] ? r->path : NULL);
        if (s->n_known != r->entries_total || s->n_watches != r->entries_done)
                s->kind->changed(s);
        s->n_known = r->entries_total;
        s->n_watches = r->entries_done;
        if (r->text[0])
                warn(s, SOURCE_PARTLY, r->text);
        else if (r->state == WATCH_IDLE)
                set_state(s, SOURCE_ON, NULL);
        else if (s->state == SOURCE_STALLED)
                set_state(s, SOURCE_STARTING, NULL);
}

/* Whether p still is (or, with NULL, was) the process that is wanted, once we know what it may know already:
 * its overlay was unmounted, and there is nothing to tell. */
static bool is_still_wanted(Source *s, const Proc *p) {
        if (s->kind->catch_up)
                s->kind->catch_up(s);
        return s->kind->is_wanted(s) && s->proc == p;
}

static void take_result(Source *s, const Proc *p, const WireRecord *r) {
        bool is_refused = strcmp(r->name, failure_kind_to_string(FAILURE_PRECONDITION)) == 0;

        if (strcmp(r->name, "None") != 0 && is_still_wanted(s, p))
                warn(s, is_refused ? SOURCE_REFUSED : SOURCE_STALLED, r->text);
}

static void on_record(Proc *p, const WireRecord *r, void *userdata) {
        Source *s = userdata;

        if (r->kind == WIRE_HEAT)
                s->kind->use(s, r);
        else if (r->kind == WIRE_WATCH)
                take_status(s, r);
        else if (r->kind == WIRE_RESULT)
                take_result(s, p, r);
}

static int on_pause_over(sd_event_source *source, uint64_t usec, void *userdata) {
        Source *s = userdata;

        s->timer = sd_event_source_disable_unref(s->timer);
        source_update(s);
        return 0;
}

static void warn_of_end(Source *s, ProcEnd end, int status) {
        _cleanup_free_ char *why = str_format(
                "the process that %s %s %i; another one will be started", s->kind->does,
                end == PROC_SIGNALED ? "was killed by signal" : "ended with exit status", status);

        warn(s, SOURCE_STALLED, why ?: "it ended");
}

/* One that hangs in the kernel is replaced when it has ended: another one would hang as well, unless it is
 * not told of what this one hangs at. */
static void on_end(Proc *p, ProcEnd end, int status, void *userdata) {
        Source *s = userdata;

        s->proc = NULL;
        s->timer = sd_event_source_disable_unref(s->timer);
        if (!is_still_wanted(s, NULL) || s->state == SOURCE_REFUSED)
                return;
        if (s->state != SOURCE_STALLED && end != PROC_UNMOUNTED)
                warn_of_end(s, end, status);
        if (end == PROC_ABANDONED && !s->kind->leave_out)
                return;
        if (loop_now(s->host->event, CLOCK_MONOTONIC) - s->started_usec >= HEALTHY_USEC)
                s->pause_usec = PAUSE_FIRST_USEC;
        set_timer(s, s->pause_usec, on_pause_over);
        s->pause_usec = pause_next(s->pause_usec, PAUSE_LAST_USEC);
}

static const ProcHandler handler = { .on_record = on_record, .on_end = on_end };

static int start(Source *s) {
        _cleanup_(wire_request_done) WireRequest q = { 0 };

        s->kind->make_request(s, &q);
        return proc_spawn(s->host->workers, s->tag, &q, &handler, s, &s->proc);
}

/* One that has been killed is waited for: whether it hangs in the kernel decides about the next one. */
static void stop(Source *s) {
        s->timer = sd_event_source_disable_unref(s->timer);
        if (s->proc && !proc_is_killed(s->proc))
                s->proc = proc_free(s->proc);
        (void) str_replace(&s->waits_for, NULL);
}

static bool is_hanging(const Source *s) {
        return s->proc
                ? proc_is_killed(s->proc)
                : proc_pool_count_stuck(s->host->workers, s->tag) >= (s->kind->leave_out ? STUCK_MOST : 1);
}

static void tell_hanging(Source *s) {
        _cleanup_free_ char *why = str_format(
                "the process that %s was killed and is not gone yet, it may wait for a lower layer; another "
                "one is "
                "started then",
                s->kind->does);

        set_state(s, SOURCE_STALLED, why ?: "it was killed and is not gone yet");
}

void source_update(Source *s) {
        int r;

        if (!s->kind->is_wanted(s)) {
                stop(s);
                set_state(s, SOURCE_OFF, NULL);
                return;
        }
        if (s->state == SOURCE_REFUSED)
                return;
        if (is_hanging(s)) {
                if (!s->proc || s->state == SOURCE_OFF)
                        tell_hanging(s);
                return;
        }
        if (s->proc || s->timer)
                return;
        if (s->pause_usec == 0)
                s->pause_usec = PAUSE_FIRST_USEC;
        r = start(s);
        if (r < 0) {
                _cleanup_free_ char *why = str_format("cannot start a process for it: %s", strerror(-r));

                warn(s, SOURCE_STALLED, why ?: "cannot start a process for it");
                set_timer(s, s->pause_usec, on_pause_over);
                return;
        }
        if (s->state == SOURCE_OFF)
                set_state(s, SOURCE_STARTING, NULL);
        s->started_usec = loop_now(s->host->event, CLOCK_MONOTONIC);
        set_timer(s, WATCH_PATIENCE_USEC, on_silence);
        s->kind->started(s);
}

void source_restart(Source *s) {
        stop(s);
        s->pause_usec = 0;
        if (is_hanging(s) && s->kind->is_wanted(s))
                tell_hanging(s);
        else
                set_state(s, SOURCE_OFF, NULL);
        source_update(s);
}

void source_tell(const Source *s, const char *packet) {
        int r = s->proc ? proc_tell(s->proc, packet) : 0;

        if (r < 0) {
                log_debug("What %s of '%s' does not listen, ending it", s->kind->does, s->tag);
                proc_kill(s->proc);
        }
}

void source_done(Source *s) {
        stop(s);
        s->proc = proc_free(s->proc);
        (void) str_replace(&s->reason, NULL);
}
