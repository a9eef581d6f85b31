/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The verbs "watch", "paths" and "misses", sources of heat: from what core finds to records. They listen for
 * themselves, and end when they are told to. Nothing is kept here, and what is use of a directory core has
 * decided. */
#include <string.h>

#include "core/misses/misses.h"
#include "core/paths/paths.h"
#include "core/watch/watcher.h"
#include "worker/worker.h"

bool worker_is_source(const Worker *w) {
        return job_type_is_source(job_type_from_string(wire_request_get(&w->request, WIRE_VERB)));
}

static int send_heat(const char *path, uint64_t n_opens, uint64_t n_counted, void *userdata) {
        WireRecord r = { .kind = WIRE_HEAT, .entries_total = n_opens, .entries_done = n_counted };

        wire_set(r.path, path);
        return wire_send(WORKER_FD, &r);
}

static int send_status(const WatcherStatus *s, void *userdata) {
        WireRecord r = {
                .kind = WIRE_WATCH,
                .state = s->is_busy ? WATCH_BUSY : WATCH_IDLE,
                .entries_total = s->n_known,
                .entries_done = s->n_watches,
                .errors = s->n_left_out,
        };

        wire_set(r.text, s->reason);
        return wire_send(WORKER_FD, &r);
}

int worker_watch(Worker *w, Failure *reterr) {
        const char *most = wire_request_get(&w->request, WIRE_MAX_WATCHES);
        const char *window = wire_request_get(&w->request, WIRE_HOT_WINDOW);
        _cleanup_free_ char *wanted = NULL, *excluded = NULL;
        _cleanup_free_ char **directories = worker_split(w, WIRE_DIRECTORIES, &wanted);
        _cleanup_free_ char **exclude = worker_split(w, WIRE_EXCLUDE, &excluded);
        const WatcherConfig c = {
                .overlay = w->overlay,
                .directories = directories,
                .exclude = exclude,
                .max_watches = most ? strtoull(most, NULL, 10) : 8192,
                .window_usec = window ? strtoull(window, NULL, 10) : 600 * USEC_PER_SEC,
                .control_fd = WORKER_FD,
                .heat = send_heat,
                .status = send_status,
        };

        if (!directories || !exclude)
                return failure_set_errno(reterr, -ENOMEM, "cannot watch '%s'", w->overlay->mount_point);
        return watcher_run(&c, reterr);
}

static int send_searches(const char *overlay, const char *path, uint64_t n_programs, void *userdata) {
        WireRecord r = { .kind = WIRE_HEAT, .searches = n_programs };

        wire_set(r.text, overlay);
        wire_set(r.path, path);
        return wire_send(WORKER_FD, &r);
}

static int send_state(bool is_busy, const char *overlay, const char *reason, void *userdata) {
        WireRecord r = { .kind = WIRE_WATCH, .state = is_busy ? WATCH_BUSY : WATCH_IDLE };

        wire_set(r.path, overlay);
        wire_set(r.text, reason);
        return wire_send(WORKER_FD, &r);
}

int worker_paths(const Worker *w, Failure *reterr) {
        _cleanup_free_ char *buffer = NULL;
        _cleanup_free_ char **variables = worker_split(w, WIRE_VARIABLES, &buffer);
        const PathsConfig c = {
                .variables = variables,
                .control_fd = WORKER_FD,
                .use = send_searches,
                .status = send_state,
        };

        return variables ? paths_run(&c, reterr)
                         : failure_set_errno(reterr, -ENOMEM, "cannot look for search paths");
}

static int
send_misses(const char *overlay, const char *path, uint64_t n_asked, uint64_t n_saved, void *userdata) {
        WireRecord r = { .kind = WIRE_HEAT, .misses = n_asked, .saved = n_saved };

        wire_set(r.text, overlay);
        wire_set(r.path, path);
        return wire_send(WORKER_FD, &r);
}

static int send_counting(bool is_busy, uint64_t n_overlays, void *userdata) {
        WireRecord r = {
                .kind = WIRE_WATCH,
                .state = is_busy ? WATCH_BUSY : WATCH_IDLE,
                .entries_total = n_overlays,
        };

        return wire_send(WORKER_FD, &r);
}

int worker_misses(Failure *reterr) {
        const MissesConfig c = {
                .control_fd = WORKER_FD,
                .count = send_misses,
                .status = send_counting,
        };

        return misses_run(&c, reterr);
}
