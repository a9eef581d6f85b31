/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/automatic.h"

#include <string.h>

#include "base/clock.h"
#include "base/path-util.h"
#include "base/str.h"
#include "config/config.h"
#include "config/schedule.h"
#include "overlays/directory-table.h"
#include "overlays/heat.h"
#include "overlays/managed.h"
#include "overlays/watching.h"
#include "service/log.h"
#include "service/loop.h"
#include "service/spread.h"

#define PAUSE_FIRST_USEC (5 * USEC_PER_SEC)
#define PAUSE_LAST_USEC (3600 * USEC_PER_SEC)
/* What stands in the way by its nature seldom goes away by itself. */
#define PAUSE_PRECONDITION_USEC (600 * USEC_PER_SEC)
#define PAUSE_PRECONDITION_LAST_USEC (24 * 3600 * USEC_PER_SEC)

uint64_t automatic_pause(FailureKind kind, unsigned n) {
        unsigned n_before = n > 0 ? n - 1 : 0;

        return kind == FAILURE_PRECONDITION
                ? pause_after(n_before, PAUSE_PRECONDITION_USEC, PAUSE_PRECONDITION_LAST_USEC)
                : pause_after(n_before, PAUSE_FIRST_USEC, PAUSE_LAST_USEC);
}

bool automatic_is_open(const Managed *o) {
        uint64_t change;

        return schedule_is_open(
                o->config->settings.schedule, loop_now(o->host->event, CLOCK_REALTIME), &change);
}

static bool is_finalized(const Managed *o, const char *path) {
        DirectoryInfo info;

        return directory_table_get(o->directories, path, &info) > 0 &&
                directory_state_is_finalized(info.state);
}

static bool needs_work(const Managed *o, const char *path) {
        DirectoryInfo info;

        if (directory_table_get(o->directories, path, &info) == 0)
                return true;
        return info.state == DIRECTORY_MERGED || info.state == DIRECTORY_COPIED_UP ||
                info.state == DIRECTORY_PENDING || info.state == DIRECTORY_EXCLUDED;
}

/* Whether it is worth a look at all of them. */
static bool may_be_candidate(const Managed *o, const Queue *q, const char *path, uint64_t now) {
        const Settings *s = &o->config->settings;
        HeatEntry e;

        return s->is_automatic && heat_table_get(o->heat, path, now, s->hot_window_usec, &e) > 0 &&
                heat_is_hot(e.heat, s->hot_opens) && e.not_before_usec <= now && needs_work(o, path) &&
                !queue_find_job_at(q, o->config->name, path);
}

bool automatic_take_heat(Managed *o, const Queue *q, const char *path, const Use *use) {
        Use u = *use;
        uint64_t now = loop_now(o->host->event, CLOCK_REALTIME),
                 window = o->config->settings.hot_window_usec;

        if (u.searches > 0 && is_finalized(o, path))
                u.searches = 0;
        if (heat_table_add(o->heat, path, &u, now, window) < 0) {
                (void) log_oom();
                return false;
        }
        if (heat_table_size(o->heat) > HEAT_DIRECTORIES_MAX)
                heat_table_trim(o->heat, HEAT_DIRECTORIES_MAX * 3 / 4, now, window);
        return may_be_candidate(o, q, path, now);
}

void candidates_done(Candidates *c) {
        path_list_done(&c->paths);
        path_list_done(&c->units);
        free(c->heats);
        globs_done(&c->unit);
}

static int add_candidate(Candidates *c, const char *path, double heat) {
        if (c->paths.n == CANDIDATES_MOST)
                return -ECANCELED;
        if (!ARRAY_GROW(c->heats, c->paths.n))
                return -ENOMEM;
        c->heats[c->paths.n] = heat;
        return path_list_add(&c->paths, path);
}

static void note_next(Candidates *c, const HeatEntry *e) {
        if (e->not_before_usec < c->next_usec)
                c->next_usec = e->not_before_usec;
}

/* For the release that a hot directory is part of. 0: that is no candidate, the directory itself may be. */
static int consider_unit(Candidates *c, const char *path, double heat) {
        const Managed *o = c->overlay;
        ssize_t n = globs_match_prefix(&c->unit, path);
        _cleanup_free_ char *unit = n > 0 ? strndup(path, (size_t) n) : NULL;
        HeatEntry e = { 0 };
        int r;

        if (n <= 0)
                return 0;
        if (!unit)
                return -ENOMEM;
        for (size_t i = 0; i < c->units.n; i++)
                if (strcmp(c->units.items[i], unit) == 0)
                        return 1; /* for another directory of it, a hotter one */
        (void) heat_table_get(o->heat, unit, c->now, o->config->settings.hot_window_usec, &e);
        if (!needs_work(o, unit))
                return 0;
        if (e.not_before_usec > c->now) {
                note_next(c, &e);
                return !e.is_refused;
        }
        r = add_candidate(c, unit, heat);
        if (r >= 0)
                r = path_list_add(&c->units, unit);
        return r < 0 ? r : 1;
}

static int consider(const HeatEntry *e, void *userdata) {
        Candidates *c = userdata;
        const Managed *o = c->overlay;
        int r;

        if (!heat_is_hot(e->heat, o->config->settings.hot_opens))
                return -ECANCELED; /* all that follow are colder */
        if (e->path[0] == '\0' || !needs_work(o, e->path) ||
            queue_find_job_at(c->queue, o->config->name, e->path))
                return 0;
        if (e->not_before_usec > c->now) {
                note_next(c, e);
                return 0;
        }
        r = consider_unit(c, e->path, e->heat);
        return r == 0 ? add_candidate(c, e->path, e->heat) : r;
}

bool candidates_have_above(const Candidates *c, size_t i) {
        for (size_t k = 0; k < c->paths.n; k++)
                if (k != i && path_startswith(c->paths.items[i], c->paths.items[k]))
                        return true;
        return false;
}

static int on_time(sd_event_source *s, uint64_t usec, void *userdata) {
        Managed *o = userdata;

        o->automatic_timer = sd_event_source_disable_unref(o->automatic_timer);
        o->is_heat_changed = true;
        o->events->wake(o);
        return 0;
}

static void set_timer(Managed *o, uint64_t usec) {
        int r;

        o->automatic_timer = sd_event_source_disable_unref(o->automatic_timer);
        if (usec == USEC_INFINITY)
                return;
        r = sd_event_add_time(
                o->host->event, &o->automatic_timer, CLOCK_REALTIME, usec, USEC_PER_SEC / 4, on_time, o);
        if (r < 0)
                (void) log_error_errno(r, "Cannot set a time to look at overlay '%s': %m", o->config->name);
}

void automatic_find(Managed *o, const Queue *q, Candidates *ret) {
        const Settings *s = &o->config->settings;
        int r;

        *ret = (Candidates){ .overlay = o,
                             .queue = q,
                             .now = loop_now(o->host->event, CLOCK_REALTIME),
                             .next_usec = USEC_INFINITY };
        if (o->state != MANAGED_ACTIVE || o->host->is_stopping || !s->is_automatic ||
            queue_count_automatic(q, o->config->name) >= AUTOMATIC_AT_ONCE)
                return;
        r = globs_new(s->unit, &ret->unit);
        if (r >= 0)
                r = heat_table_foreach(o->heat, 0, ret->now, s->hot_window_usec, consider, ret);
        if (r < 0 && r != -ECANCELED)
                (void) log_oom();
}

void automatic_set_timer(Managed *o, const Candidates *c) {
        uint64_t change = USEC_INFINITY;

        if (o->state == MANAGED_ACTIVE && !o->host->is_stopping)
                (void) schedule_is_open(o->config->settings.schedule, c->now, &change);
        /* While nothing waits for a window, its opening changes nothing. */
        if (queue_count_automatic(c->queue, o->config->name) == 0)
                change = USEC_INFINITY;
        set_timer(o, c->next_usec < change ? c->next_usec : change);
}

bool automatic_spread(const Managed *o, Job *j) {
        const Settings *s = &o->config->settings;
        uint64_t now, left, most, delay;
        _cleanup_free_ char *when = NULL, *reason = NULL;

        if (!j->is_automatic || j->state != JOB_QUEUED || j->started_usec > 0 ||
            strcmp(j->overlay, o->config->name) != 0)
                return false;
        now = loop_now(o->host->event, CLOCK_REALTIME);
        left = schedule_end(s->schedule, now) - now;
        most = left > 0 ? s->randomized_delay_usec : 0;
        if (j->spread_usec == most)
                return false;
        j->spread_usec = most;
        delay = spread_delay(o->host->machine, j->overlay, j->path, most < left ? most : left);
        when = clock_format(now + delay);
        reason = when
                ? str_format(
                          "it starts at %s, for not all hosts are to start at once (RandomizedDelaySec=)",
                          when)
                : NULL;
        if (job_put_off(j, reason, delay > 0 ? loop_now(o->host->event, CLOCK_BOOTTIME) + delay : 0) < 0)
                (void) log_oom();
        return true;
}

void automatic_job_ended(Managed *o, const Job *j) {
        uint64_t now = loop_now(o->host->event, CLOCK_REALTIME);
        HeatEntry e = { 0 };
        bool is_known = heat_table_get(o->heat, j->path, now, o->config->settings.hot_window_usec, &e) > 0;

        if (j->type == JOB_REMOUNT)
                return; /* it has told itself */
        if (j->type == JOB_FINALIZE && j->state == JOB_DONE && !needs_work(o, j->path))
                heat_table_forgive(o->heat, j->path);
        else if (j->type == JOB_FINALIZE && j->state == JOB_DONE) /* there was nothing to be done, and is not
                                                                   */
                heat_table_note_failure(
                        o->heat, j->path, now + PAUSE_PRECONDITION_USEC, /* is_refused= */ true);
        else if (j->is_automatic || (is_known && j->state == JOB_FAILED))
                heat_table_note_failure(
                        o->heat, j->path, now + automatic_pause(j->failure.kind, e.n_failures + 1),
                        j->failure.kind == FAILURE_PRECONDITION || j->failure.kind == FAILURE_NO_SPACE);
        watching_resume(o, j->path);
        o->is_heat_changed = true;
}
