/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "overlays/watching.h"

#include <limits.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "base/strv.h"
#include "overlays/managed.h"
#include "service/log.h"
#include "service/messages.h"

#define PAUSE_FIRST_USEC (5 * USEC_PER_SEC) /* between a watcher that died and the next one */
#define PAUSE_LAST_USEC (300 * USEC_PER_SEC)

static const char *const state_names[_WATCHING_STATE_MAX] = { "off", "starting", "on", "partly", "stalled" };

const char *watching_state_to_string(WatchingState s) {
        return state_names[s];
}

static void watching_set_state(Watching *w, WatchingState state, const char *reason) {
        if (w->state == state && str_equal(w->reason, reason))
                return;
        w->state = state;
        (void) str_replace(&w->reason, reason);
        w->overlay->events->changed(w->overlay);
}

static void watching_warn(Watching *w, WatchingState state, const char *reason) {
        const OverlayConfig *c = w->overlay->config;

        if (w->state != state || !str_equal(w->reason, reason))
                log_fields(
                        LOG_WARNING, MANAGED_FIELDS(w->overlay, MESSAGE_WATCHING_LIMITED),
                        "Overlay '%s' is %s: %s", c->name,
                        state == WATCHING_STALLED ? "not watched" : "not watched completely", reason);
        watching_set_state(w, state, reason);
}

static void watching_set_timer(Watching *w, uint64_t usec, sd_event_time_handler_t func) {
        int r;

        w->timer = sd_event_source_disable_unref(w->timer);
        r = sd_event_add_time_relative(
                w->overlay->host->event, &w->timer, CLOCK_MONOTONIC, usec, USEC_PER_SEC / 2, func, w);
        if (r < 0)
                (void) log_error_errno(
                        r, "Cannot set a time for the watcher of '%s': %m", w->overlay->config->name);
}

static int on_silence(sd_event_source *s, uint64_t usec, void *userdata) {
        Watching *w = userdata;

        w->timer = sd_event_source_disable_unref(w->timer);
        watching_warn(
                w, WATCHING_STALLED,
                "the process that looks at its directories gets no answer; see whether its lower layers "
                "answer");
        if (w->proc)
                proc_kill(w->proc);
        return 0;
}

static void watching_take_status(Watching *w, const WireRecord *r) {
        if (r->state == WATCH_BUSY)
                watching_set_timer(w, WATCH_PATIENCE_USEC, on_silence);
        else
                w->timer = sd_event_source_disable_unref(w->timer);
        if (w->n_known != r->entries_total || w->n_watches != r->entries_done)
                w->overlay->events->changed(w->overlay);
        w->n_known = r->entries_total;
        w->n_watches = r->entries_done;
        if (r->text[0])
                watching_warn(w, WATCHING_PARTLY, r->text);
        else if (r->state == WATCH_IDLE)
                watching_set_state(w, WATCHING_ON, NULL);
        else if (w->state == WATCHING_STALLED)
                watching_set_state(w, WATCHING_STARTING, NULL);
        if (r->state == WATCH_IDLE)
                w->pause_usec = PAUSE_FIRST_USEC;
}

static bool is_wanted(const Watching *w) {
        const Managed *o = w->overlay;

        return o->state == MANAGED_ACTIVE && o->config->settings.max_watches > 0 && !o->host->is_stopping;
}

/* Whether p still is (or, with NULL, was) the watcher that is wanted, once we know what it may know already:
 * its overlay was unmounted, and there is nothing to tell. */
static bool is_still_wanted(const Watching *w, const Proc *p) {
        w->overlay->events->catch_up(w->overlay);
        return is_wanted(w) && w->proc == p;
}

static void on_record(Proc *p, const WireRecord *r, void *userdata) {
        Watching *w = userdata;

        if (r->kind == WIRE_HEAT)
                w->overlay->events->used(w->overlay, r->path, r->entries_total, r->entries_done);
        else if (r->kind == WIRE_WATCH)
                watching_take_status(w, r);
        else if (r->kind == WIRE_RESULT && strcmp(r->name, "None") != 0 && is_still_wanted(w, p))
                watching_warn(w, WATCHING_STALLED, r->text);
}

static int on_pause_over(sd_event_source *s, uint64_t usec, void *userdata) {
        Watching *w = userdata;

        w->timer = sd_event_source_disable_unref(w->timer);
        watching_update(w);
        return 0;
}

static void warn_of_end(Watching *w, ProcEnd end, int status) {
        char why[128];

        (void) snprintf(
                why, sizeof(why),
                "the process that looks at its directories %s %i; another one will be started",
                end == PROC_SIGNALED ? "was killed by signal" : "ended with exit status", status);
        watching_warn(w, WATCHING_STALLED, why);
}

/* One that hangs in the kernel is replaced when it has ended: another one would hang as well. */
static void on_end(Proc *p, ProcEnd end, int status, void *userdata) {
        Watching *w = userdata;

        w->proc = NULL;
        w->timer = sd_event_source_disable_unref(w->timer);
        if (!is_still_wanted(w, NULL))
                return;
        if (w->state != WATCHING_STALLED && end != PROC_UNMOUNTED)
                warn_of_end(w, end, status);
        if (end == PROC_ABANDONED)
                return;
        watching_set_timer(w, w->pause_usec, on_pause_over);
        w->pause_usec = pause_next(w->pause_usec, PAUSE_LAST_USEC);
}

static const ProcHandler handler = { .on_record = on_record, .on_end = on_end };

static int watching_start(Watching *w) {
        const Settings *s = &w->overlay->config->settings;
        _cleanup_(wire_request_done) WireRequest q = { 0 };
        _cleanup_free_ char *directories = strv_join(s->directories);
        Managed *o = w->overlay;

        if (!directories)
                return -ENOMEM;
        managed_make_request(o, JOB_WATCH, "", &q);
        managed_make_background(o, &q);
        wire_request_add(&q, WIRE_DIRECTORIES, directories);
        wire_request_add_number(&q, WIRE_MAX_WATCHES, s->max_watches);
        wire_request_add_number(&q, WIRE_HOT_WINDOW, s->hot_window_usec);
        return proc_spawn(o->host->workers, o->config->name, &q, &handler, w, &w->proc);
}

static void watching_stop(Watching *w) {
        w->timer = sd_event_source_disable_unref(w->timer);
        w->proc = proc_free(w->proc);
}

static void tell_place(const char *path, void *userdata) {
        watching_look(userdata, path, /* begins= */ true);
}

void watching_update(Watching *w) {
        const Managed *o = w->overlay;
        int r;

        if (!is_wanted(w)) {
                watching_stop(w);
                watching_set_state(w, WATCHING_OFF, NULL);
                return;
        }
        if (w->proc || w->timer || proc_pool_count_stuck(o->host->workers, o->config->name) > 0)
                return;
        if (w->pause_usec == 0)
                w->pause_usec = PAUSE_FIRST_USEC;
        r = watching_start(w);
        if (r < 0) {
                _cleanup_free_ char *why = str_format("cannot start a process for it: %s", strerror(-r));

                watching_warn(w, WATCHING_STALLED, why ?: "cannot start a process for it");
                watching_set_timer(w, w->pause_usec, on_pause_over);
                return;
        }
        if (w->state == WATCHING_OFF)
                watching_set_state(w, WATCHING_STARTING, NULL);
        watching_set_timer(w, WATCH_PATIENCE_USEC, on_silence);
        w->overlay->events->watcher_started(w->overlay);
        proc_pool_foreach_place(w->overlay->host->workers, w->overlay->config->name, tell_place, w);
}

void watching_restart(Watching *w) {
        watching_stop(w);
        w->pause_usec = 0;
        watching_set_state(w, WATCHING_OFF, NULL);
        watching_update(w);
}

/* One that does not listen cannot be told later what it has missed: another one knows. */
static void say(const Watching *w, const char *packet) {
        int r = w->proc ? proc_send(w->proc, packet) : 0;

        if (r < 0) {
                log_debug("The watcher of '%s' does not listen, ending it", w->overlay->config->name);
                proc_kill(w->proc);
        }
}

void watching_rearm(Watching *w, const char *path) {
        char packet[PATH_MAX + 16];
        int n = snprintf(packet, sizeof(packet), "rearm%s%s", path ? " " : "", path ?: "");

        if (n > 0 && (size_t) n < sizeof(packet))
                say(w, packet);
}

void watching_rest(const Watching *w, const char *path, bool with_parents) {
        char packet[PATH_MAX + 16];

        (void) snprintf(packet, sizeof(packet), "rest%s %s", with_parents ? "-parents" : "", path);
        say(w, packet);
}

void watching_look(const Watching *w, const char *path, bool begins) {
        char packet[PATH_MAX + 16];

        (void) snprintf(packet, sizeof(packet), "%s %s", begins ? "look" : "looked", path);
        say(w, packet);
}

void watching_done(Watching *w) {
        watching_stop(w);
        (void) str_replace(&w->reason, NULL);
}
