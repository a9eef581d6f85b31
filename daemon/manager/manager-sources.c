/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The part of the manager that is about sources of heat for all overlays, a row each (overlays/source.h says
 * what their processes hear and send). Each is told of the overlays that are active and want it, and runs as
 * long as there is one. What is hot is not decided here. What a source tells of an overlay that is gone
 * meanwhile is passed over. */
#include <string.h>
#include <sys/sysmacros.h>

#include "base/clock.h"
#include "base/str.h"
#include "base/strv.h"
#include "manager/manager.h"
#include "service/log.h"
#include "service/loop.h"
#include "service/messages.h"

/* Of an overlay at which a process hung, until the next one is told of it: */
#define LEFT_OUT_FIRST_USEC (60 * USEC_PER_SEC)
#define LEFT_OUT_LAST_USEC (3600 * USEC_PER_SEC)

static int source_index(const Source *s) {
        const Manager *m = s->userdata;

        return SOURCE_PATHS + (int) (s - m->sources);
}

static bool is_told_to(const Source *s, const Managed *o) {
        return o->told != 0 && !(s->kind->leave_out && o->left_out) &&
                settings_have_source(&o->config->settings, source_index(s));
}

static bool is_wanted(Source *s) {
        const Manager *m = s->userdata;

        for (size_t i = 0; i < m->n_overlays && !m->host.is_stopping; i++)
                if (is_told_to(s, m->overlays[i]))
                        return true;
        return false;
}

static void make_paths_request(Source *s, WireRequest *q) {
        _cleanup_strv_free_ char **variables = NULL;
        _cleanup_free_ char *joined = NULL;
        const Manager *m = s->userdata;

        for (size_t i = 0; i < m->n_overlays && q->error == 0; i++)
                STRV_FOREACH (v, m->overlays[i]->config->settings.search_variables)
                        if (q->error == 0 && !strv_contains(variables, *v))
                                q->error = strv_extend(&variables, *v);
        joined = strv_join(variables);
        wire_request_add(q, WIRE_VERB, job_type_to_string(JOB_PATHS));
        wire_request_add(q, WIRE_VARIABLES, joined ?: "");
}

static void make_misses_request(Source *s, WireRequest *q) {
        wire_request_add(q, WIRE_VERB, job_type_to_string(JOB_MISSES));
}

static void tell_one(const Source *s, const Managed *o) {
        _cleanup_free_ char *packet = str_format(
                "overlay %s %u:%u %s", o->config->name, major(o->told), minor(o->told),
                o->config->mount_point);

        if (!packet)
                (void) log_oom();
        else if (is_told_to(s, o))
                source_tell(s, packet);
}

static void on_started(Source *s) {
        const Manager *m = s->userdata;

        for (size_t i = 0; i < m->n_overlays; i++)
                tell_one(s, m->overlays[i]);
}

static Managed *find_told(const Source *s, const char *name) {
        const Manager *m = s->userdata;

        for (size_t i = 0; i < m->n_overlays; i++)
                if (is_told_to(s, m->overlays[i]) && strcmp(m->overlays[i]->config->name, name) == 0)
                        return m->overlays[i];
        return NULL;
}

static void on_use(Source *s, const WireRecord *r) {
        Managed *o = find_told(s, r->text);
        const Use use = {
                .opens = r->entries_total,
                .counted = r->entries_done,
                .searches = r->searches,
                .misses = r->misses,
                .saved = r->saved,
        };

        if (!o)
                return;
        if (r->path[0] != '\0' && coverage_has(&o->coverage, r->path))
                o->events->used(o, r->path, &use);
        else /* of no directory that could be finalized for it */
                counters_use(&o->counters, &use, loop_now(o->host->event, CLOCK_MONOTONIC));
}

static void on_changed(Source *s) {
        const Manager *m = s->userdata;

        for (size_t i = 0; i < m->n_overlays; i++)
                if (is_told_to(s, m->overlays[i]))
                        m->overlays[i]->events->changed(m->overlays[i]);
}

static int on_left_out(sd_event_source *source, uint64_t usec, void *userdata) {
        Managed *o = userdata;
        Manager *m = o->userdata;

        o->left_out = sd_event_source_disable_unref(o->left_out);
        for (size_t i = 0; i < MANAGER_SOURCES; i++)
                if (m->sources[i].kind->leave_out && m->sources[i].proc)
                        tell_one(m->sources + i, o);
        manager_update_sources(m);
        o->events->changed(o);
        return 0;
}

static void leave_out(Source *s, const char *overlay) {
        Managed *o = find_told(s, overlay);
        uint64_t now = loop_now(s->host->event, CLOCK_MONOTONIC);
        int r;

        if (!o)
                return;
        o->left_out_pause_usec = o->left_out_pause_usec == 0 ||
                        now - o->left_out_usec > o->left_out_pause_usec + LEFT_OUT_LAST_USEC
                ? LEFT_OUT_FIRST_USEC
                : pause_next(o->left_out_pause_usec, LEFT_OUT_LAST_USEC);
        o->left_out_usec = now;
        r = sd_event_add_time_relative(
                s->host->event, &o->left_out, CLOCK_MONOTONIC, o->left_out_pause_usec, USEC_PER_SEC,
                on_left_out, o);
        if (r < 0)
                (void) log_error_errno(
                        r, "Cannot set a time to look at programs on overlay '%s' again: %m", overlay);
        o->events->changed(o);
}

static void on_log(const Source *s, SourceState state, const char *reason) {
        log_fields(
                state == SOURCE_STALLED ? LOG_WARNING : LOG_NOTICE,
                &(LogFields){ .message_id = MESSAGE_SOURCE_LIMITED },
                "The source of heat '%s' is %s; the others go on: %s", s->kind->name,
                source_state_to_string(state), reason);
}

static const SourceKind kinds[MANAGER_SOURCES] = {
        {
                .name = "paths",
                .does = "looks for search paths of programs",
                .silence = "see whether the lower layers of all overlays answer",
                .is_wanted = is_wanted,
                .make_request = make_paths_request,
                .started = on_started,
                .use = on_use,
                .changed = on_changed,
                .log = on_log,
                .leave_out = leave_out,
        },
        {
                .name = "misses",
                .does = "counts lookups that find nothing",
                .silence = "it touches no file, so the machine may be overloaded",
                .is_wanted = is_wanted,
                .make_request = make_misses_request,
                .started = on_started,
                .use = on_use,
                .changed = on_changed,
                .log = on_log,
        },
};

void manager_init_sources(Manager *m) {
        static const char *const tags[MANAGER_SOURCES] = { "*paths", "*misses" }; /* PROC_TAG_OF_ALL */

        for (size_t i = 0; i < MANAGER_SOURCES; i++)
                m->sources[i] =
                        (Source){ .kind = kinds + i, .host = &m->host, .tag = tags[i], .userdata = m };
}

void manager_tell_sources(Manager *m, Managed *o, bool is_going) {
        bool is_there = o->state == MANAGED_ACTIVE && o->overlay && !is_going;
        _cleanup_free_ char *gone = str_format("gone %s", o->config->name);
        dev_t device = is_there ? o->overlay->device : 0;

        if (device == o->told)
                return;
        o->told = device;
        o->left_out = sd_event_source_disable_unref(o->left_out);
        for (size_t i = 0; i < MANAGER_SOURCES; i++) {
                Source *s = m->sources + i;

                if (device != 0 && s->proc)
                        tell_one(s, o);
                else if (gone && settings_have_source(&o->config->settings, source_index(s)))
                        source_tell(s, gone);
        }
        manager_update_sources(m);
}

void manager_update_sources(Manager *m) {
        for (size_t i = 0; i < MANAGER_SOURCES; i++)
                source_update(m->sources + i);
}

void manager_restart_sources(Manager *m) {
        for (size_t i = 0; i < m->n_overlays; i++)
                m->overlays[i]->left_out = sd_event_source_disable_unref(m->overlays[i]->left_out);
        for (size_t i = 0; i < MANAGER_SOURCES; i++)
                source_restart(m->sources + i);
}

void manager_free_sources(Manager *m) {
        for (size_t i = 0; i < MANAGER_SOURCES; i++)
                source_done(m->sources + i);
}

const char *manager_source_state(
        const Manager *m, const Managed *o, unsigned i, const char **ret_name, const char **ret_reason) {
        const Source *s = i == 0 ? &o->watching : i <= MANAGER_SOURCES ? m->sources + i - 1 : NULL;
        bool is_shown = s && (i == 0 || is_told_to(s, o));

        if (!s)
                return NULL;
        *ret_name = s->kind->name;
        if (i > 0 && s->kind->leave_out && o->left_out &&
            settings_have_source(&o->config->settings, source_index(s))) {
                *ret_reason =
                        "its lower layers gave no answer; programs that search it are counted again later";
                return source_state_to_string(SOURCE_STALLED);
        }
        *ret_reason = is_shown ? s->reason : NULL;
        return source_state_to_string(is_shown ? s->state : SOURCE_OFF);
}

bool manager_counts_misses(const Manager *m, const Managed *o) {
        return manager_misses_usec(m, o) > 0;
}

uint64_t manager_misses_usec(const Manager *m, const Managed *o) {
        const Source *s = m->sources + (SOURCE_MISSES - SOURCE_PATHS);

        if (!is_told_to(s, o) || (s->state != SOURCE_ON && s->state != SOURCE_PARTLY))
                return 0;
        return s->counts_usec > o->begun_usec ? s->counts_usec : o->begun_usec;
}
