/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "overlays/watching.h"

#include <limits.h>

#include "base/strv.h"
#include "overlays/managed.h"
#include "service/messages.h"

static bool is_wanted(Source *s) {
        const Managed *o = s->userdata;
        const Settings *c = &o->config->settings;

        return o->state == MANAGED_ACTIVE && c->max_watches > 0 && settings_have_source(c, SOURCE_OPENS) &&
                !o->host->is_stopping;
}

static void make_request(Source *s, WireRequest *q) {
        const Managed *o = s->userdata;
        const Settings *c = &o->config->settings;
        _cleanup_free_ char *directories = strv_join(c->directories);

        managed_make_request(o, JOB_WATCH, "", q);
        managed_make_background(o, q);
        if (directories)
                wire_request_add(q, WIRE_DIRECTORIES, directories);
        else
                q->error = -ENOMEM;
        wire_request_add_number(q, WIRE_MAX_WATCHES, c->max_watches);
        wire_request_add_number(q, WIRE_HOT_WINDOW, c->hot_window_usec);
}

static void tell_place(const char *path, void *userdata) {
        watching_look(userdata, path, /* begins= */ true);
}

static void on_started(Source *s) {
        Managed *o = s->userdata;

        o->events->watcher_started(o);
        proc_pool_foreach_place(o->host->workers, o->config->name, tell_place, o);
}

static void on_use(Source *s, const WireRecord *r) {
        Managed *o = s->userdata;

        o->events->used(o, r->path, &(Use){ .opens = r->entries_total, .counted = r->entries_done });
}

static void on_changed(Source *s) {
        Managed *o = s->userdata;

        o->events->changed(o);
}

static void on_log(const Source *s, SourceState state, const char *reason) {
        const Managed *o = s->userdata;
        bool is_blind = state == SOURCE_STALLED || state == SOURCE_REFUSED;

        log_fields(
                LOG_WARNING, MANAGED_FIELDS(o, MESSAGE_WATCHING_LIMITED), "Overlay '%s' is %s: %s",
                o->config->name, is_blind ? "not watched" : "not watched completely", reason);
}

static void on_catch_up(Source *s) {
        Managed *o = s->userdata;

        o->events->catch_up(o);
}

static const SourceKind kind = {
        .name = "opens",
        .does = "looks at its directories",
        .silence = "see whether its lower layers answer",
        .is_wanted = is_wanted,
        .make_request = make_request,
        .started = on_started,
        .use = on_use,
        .changed = on_changed,
        .log = on_log,
        .catch_up = on_catch_up,
};

void watching_init(Managed *o) {
        o->watching = (Source){ .kind = &kind, .host = o->host, .tag = o->config->name, .userdata = o };
}

void coverage_done(Coverage *c) {
        globs_done(&c->want);
        globs_done(&c->exclude);
        *c = (Coverage){ 0 };
}

void coverage_set(Coverage *c, const Settings *s) {
        coverage_done(c);
        c->is_known = globs_new(s->directories, &c->want) >= 0 && globs_new(s->exclude, &c->exclude) >= 0;
        if (!c->is_known)
                (void) log_oom();
}

bool coverage_has(const Coverage *c, const char *path) {
        return c->is_known && (c->want.n == 0 || globs_match(&c->want, path)) &&
                !globs_match_within(&c->exclude, path);
}

void watching_rearm(const Managed *o) {
        source_tell(&o->watching, "rearm");
}

void watching_pause(const Managed *o, const char *path, bool with_parents) {
        char packet[PATH_MAX + 16];

        (void) snprintf(packet, sizeof(packet), "pause%s %s", with_parents ? "-parents" : "", path);
        source_tell(&o->watching, packet);
}

void watching_resume(const Managed *o, const char *path) {
        char packet[PATH_MAX + 16];
        int n = snprintf(packet, sizeof(packet), "resume %s", path);

        if (n > 0 && (size_t) n < sizeof(packet))
                source_tell(&o->watching, packet);
}

void watching_look(const Managed *o, const char *path, bool begins) {
        char packet[PATH_MAX + 16];

        (void) snprintf(packet, sizeof(packet), "%s %s", begins ? "look" : "looked", path);
        source_tell(&o->watching, packet);
}
