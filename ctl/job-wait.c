/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/job-wait.h"

#include <signal.h>
#include <string.h>
#include <systemd/sd-event.h>

#include "base/clock.h"
#include "base/path-util.h"
#include "base/states.h"
#include "base/str.h"
#include "base/utf8.h"
#include "ctl/job.h"
#include "ctl/progress.h"
#include "ctl/verbs.h"
#include "dbus/names.h"

#define N_MATCHES 5
#define REDRAW_USEC (500 * USEC_PER_MSEC) /* without news, rate and time left still change */

struct JobWait {
        Ctl *ctl;
        sd_event *event;
        WaitedJob *jobs;
        size_t n;
        Progress progress;
        char *label;
        unsigned n_interrupts;
        bool is_over;
        int result;
        sd_bus_slot *slots[N_MATCHES];
};

static void waited_job_done(WaitedJob *j) {
        free(j->object);
        free(j->told);
        record_done(&j->record);
}

JobWait *job_wait_free(JobWait *w) {
        if (!w)
                return NULL;
        if (w->ctl->client.bus)
                (void) sd_bus_detach_event(w->ctl->client.bus);
        for (size_t i = 0; i < N_MATCHES; i++)
                sd_bus_slot_unref(w->slots[i]);
        sd_event_unref(w->event);
        for (size_t i = 0; i < w->n; i++)
                waited_job_done(&w->jobs[i]);
        free(w->jobs);
        free(w->label);
        free(w);
        return NULL;
}

size_t job_wait_count(const JobWait *w) {
        return w->n;
}

WaitedJob *job_wait_get(JobWait *w, size_t i) {
        return &w->jobs[i];
}

static WaitedJob *find_job(JobWait *w, const char *object) {
        for (size_t i = 0; i < w->n; i++)
                if (strcmp(w->jobs[i].object, object) == 0)
                        return &w->jobs[i];
        return NULL;
}

/* One line for all jobs: entries summed up, the state of the first that still goes on. */
static void show_progress(JobWait *w) {
        uint64_t done = 0, total = 0;
        const char *state = "done";

        for (size_t i = w->n; i > 0; i--) {
                const Record *r = &w->jobs[i - 1].record;

                done += record_get_number(r, "entries_done", 0);
                total += record_get_number(r, "entries_total", 0);
                if (!w->jobs[i - 1].is_finished)
                        state = record_get_string(r, "state") ?: "queued";
        }
        progress_update(&w->progress, state, done, total, now_monotonic_usec());
}

/* Not sd_event_exit(): that would close the bus, which is still needed to ask what the jobs left. */
static void end(JobWait *w, int result) {
        if (!w->is_over)
                w->result = result;
        w->is_over = true;
}

static void exit_when_finished(JobWait *w) {
        for (size_t i = 0; i < w->n; i++)
                if (!w->jobs[i].is_finished)
                        return;
        end(w, 0);
}

static void job_finish(JobWait *w, WaitedJob *j) {
        j->is_finished = true;
        record_drop_unknown(&j->record);
        exit_when_finished(w);
}

/* Once for each reason; the pauses grow, and there may be many. */
static void tell_why_it_waits(JobWait *w, WaitedJob *j) {
        const char *reason = record_get_string(&j->record, "reason") ?: "";
        bool is_waiting = record_is(&j->record, "state", "waiting"),
             is_put_off = is_waiting && record_get_number(&j->record, "next_try_usec", 0) > 0;

        if (!*reason || str_equal(j->told, reason) || options_have(&w->ctl->options, OPTION_QUIET))
                return;
        progress_clear(&w->progress);
        print_error(
                "'%s' %s: %s", j->argument,
                is_put_off           ? "waits, to be tried again"
                        : is_waiting ? "waits"
                                     : "does not get on",
                reason);
        (void) str_replace(&j->told, reason); /* without memory for it, it is printed again */
}

/* The slot carries the object path, for the job may be anyone's. */
static int on_properties(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        JobWait *w = userdata;
        WaitedJob *j = find_job(w, sd_bus_message_get_path(m));
        int r;

        if (!j || j->is_finished)
                return 0;
        r = sd_bus_message_skip(m, "s");
        if (r >= 0)
                r = record_read(&j->record, m);
        if (r < 0)
                return r;
        tell_why_it_waits(w, j);
        show_progress(w);
        return 0;
}

int job_wait_fetch(JobWait *w, WaitedJob *j) {
        _cleanup_record_ Record record = { 0 };
        int r = client_get_all(&w->ctl->client, j->object, OVLFIND_JOB_INTERFACE, &record);

        if (r < 0)
                return r;
        record_done(&j->record);
        j->record = TAKE_STRUCT(record);
        return 0;
}

static int on_job_removed(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        JobWait *w = userdata;
        const char *object, *result;
        WaitedJob *j;
        uint32_t id;
        int r = sd_bus_message_read(m, "uos", &id, &object, &result);

        if (r < 0)
                return r;
        j = find_job(w, object);
        if (!j || j->is_finished)
                return 0;
        /* Finished jobs stay readable for a while; should this one be gone already, its result is still
         * known. */
        if (job_wait_fetch(w, j) < 0 || !job_is_finished(&j->record))
                record_set_string(&j->record, "state", result);
        job_finish(w, j);
        return record_error(&j->record);
}

/* An undone directory is merged; what was in it stays copied up, or was never anywhere else. */
static bool is_goal(const JobWait *w, DirectoryState state) {
        const char *verb = w->ctl->verb->name;

        if (strcmp(verb, "finalize") == 0 || strcmp(verb, "refresh") == 0)
                return state == DIRECTORY_FINALIZED;
        return state == DIRECTORY_MERGED || state == DIRECTORY_COPIED_UP || state == DIRECTORY_LOCAL;
}

static int on_directory_changed(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        JobWait *w = userdata;
        const char *overlay, *path, *state;
        int r = sd_bus_message_read(m, "sss", &overlay, &path, &state);

        if (r < 0)
                return r;
        if (!is_goal(w, directory_state_from_string(state)))
                return 0;
        for (size_t i = 0; i < w->n; i++) {
                const char *top = record_get_string(&w->jobs[i].record, "path");

                if (top && path_startswith(path, top))
                        w->jobs[i].n_directories++;
        }
        return 0;
}

static int on_owner_changed(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        JobWait *w = userdata;
        const char *name, *old;
        int r = sd_bus_message_read(m, "ss", &name, &old);

        if (r < 0)
                return r;
        if (*old) /* whoever has the name now knows nothing of our jobs' numbers */
                end(w, -ECONNRESET);
        return 0;
}

static int on_disconnected(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        JobWait *w = userdata;

        end(w, -ECONNRESET);
        return 0;
}

static int on_canceled(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        Client *c = userdata;

        if (c->endpoint.host && sd_bus_error_has_name(e, SD_BUS_ERROR_NO_REPLY))
                return 0; /* ssh is gone: cancel_anew() goes on */
        /* A job that ended meanwhile is no reason to complain. */
        if (e && exit_code_from_error_name(e->name) != EXIT_CODE_FAILURE) {
                sd_bus_error_free(&c->error);
                (void) sd_bus_error_copy(&c->error, e);
                (void) client_report(c, -EIO, "cancel the job");
        }
        return 0;
}

static int on_interrupt(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata) {
        JobWait *w = userdata;

        progress_clear(&w->progress);
        if (w->n_interrupts++ > 0) {
                end(w, -EINTR);
                return 0;
        }
        if (!options_have(&w->ctl->options, OPTION_QUIET))
                print_error("canceling; Ctrl-C again leaves the jobs to themselves");
        for (size_t i = 0; i < w->n; i++)
                if (!w->jobs[i].is_finished)
                        (void) sd_bus_call_method_async(
                                w->ctl->client.bus, /* slot= */ NULL, OVLFIND_BUS_NAME, w->jobs[i].object,
                                OVLFIND_JOB_INTERFACE, "Cancel", on_canceled, &w->ctl->client, NULL);
        return 0;
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        JobWait *w = userdata;

        show_progress(w);
        (void) sd_event_source_set_time_relative(s, REDRAW_USEC);
        return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

static int subscribe(JobWait *w) {
        sd_bus *bus = w->ctl->client.bus;
        static const struct {
                const char *rule;
                sd_bus_message_handler_t handler;
        } matches[N_MATCHES] = {
                { "type='signal',sender='" OVLFIND_BUS_NAME "',path='" OVLFIND_OBJECT_PATH
                  "',interface='" OVLFIND_MANAGER_INTERFACE "',member='JobRemoved'",
                  on_job_removed },
                { "type='signal',sender='" OVLFIND_BUS_NAME "',path='" OVLFIND_OBJECT_PATH
                  "',interface='" OVLFIND_MANAGER_INTERFACE "',member='DirectoryChanged'",
                  on_directory_changed },
                { "type='signal',sender='" OVLFIND_BUS_NAME "',path_namespace='" OVLFIND_JOB_PATH_PREFIX
                  "',interface='org.freedesktop.DBus.Properties',member='PropertiesChanged'",
                  on_properties },
                { "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                  "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" OVLFIND_BUS_NAME "'",
                  on_owner_changed },
                { "type='signal',sender='org.freedesktop.DBus.Local',interface='org.freedesktop.DBus.Local',"
                  "member='Disconnected'",
                  on_disconnected },
        };

        for (size_t i = 0; i < N_MATCHES; i++) {
                int r = sd_bus_add_match(bus, &w->slots[i], matches[i].rule, matches[i].handler, w);

                if (r < 0)
                        return r;
        }
        return 0;
}

static int listen_events(JobWait *w) {
        _cleanup_(sd_event_source_unrefp) sd_event_source *interrupts = NULL;
        sigset_t mask;
        int r = sd_event_new(&w->event);

        if (r < 0)
                return r;
        r = sd_bus_attach_event(w->ctl->client.bus, w->event, SD_EVENT_PRIORITY_NORMAL);
        if (r < 0)
                return r;
        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGINT);
        if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
                return -errno;
        r = sd_event_add_signal(w->event, &interrupts, SIGINT, on_interrupt, w);
        /* Before the end of the connection: an ssh of the same terminal gets the Ctrl-C, too. */
        if (r >= 0)
                r = sd_event_source_set_priority(interrupts, SD_EVENT_PRIORITY_IMPORTANT);
        if (r >= 0)
                r = sd_event_source_set_floating(interrupts, true);
        if (r < 0)
                return r;
        return sd_event_add_time_relative(
                w->event, /* ret= */ NULL, CLOCK_MONOTONIC, REDRAW_USEC, /* accuracy= */ 0, on_timer, w);
}

int job_wait_new(Ctl *c, JobWait **ret) {
        _cleanup_(job_wait_freep) JobWait *w = calloc(1, sizeof(*w));
        int r;

        if (!w)
                return -ENOMEM;
        *w = (JobWait){ .ctl = c };
        r = client_acquire(&c->client);
        if (r >= 0)
                r = subscribe(w);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(w);
        return 0;
}

int job_wait_add(JobWait *w, const char *object, const char *argument, const char *path) {
        _cleanup_free_ char *copy = strdup(object);
        WaitedJob *j;

        if (find_job(w, object)) /* asked for twice */
                return 0;
        if (!copy || !ARRAY_GROW(w->jobs, w->n))
                return -ENOMEM;
        j = &w->jobs[w->n++];
        *j = (WaitedJob){ .argument = argument, .object = TAKE_PTR(copy) };
        record_set_string(&j->record, "path", path);
        return record_error(&j->record);
}

static char *make_label(const JobWait *w) {
        _cleanup_free_ char *path = utf8_escape_line(w->jobs[0].argument);
        const char *verb = strcmp(w->ctl->verb->name, "finalize") == 0 ? "finalizing" : "unfinalizing";

        if (w->n > 1)
                return str_format("%s %zu paths", verb, w->n);
        return path ? str_format("%s '%s'", verb, path) : NULL;
}

/* A Ctrl-C ends ssh before the cancel has got through: once more, by another connection. Whether the first
 * one arrived does not matter. */
static int cancel_anew(JobWait *w) {
        int r;

        (void) sd_bus_detach_event(w->ctl->client.bus);
        client_done(&w->ctl->client);
        r = client_acquire(&w->ctl->client);
        for (size_t i = 0; i < w->n && r >= 0; i++) {
                _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;

                if (w->jobs[i].is_finished)
                        continue;
                r = sd_bus_call_method(
                        w->ctl->client.bus, OVLFIND_BUS_NAME, w->jobs[i].object, OVLFIND_JOB_INTERFACE,
                        "Cancel", &e, /* ret= */ NULL, NULL);
                /* A job that ended meanwhile is no reason to complain. */
                if (r < 0 && exit_code_from_error_name(e.name) == EXIT_CODE_FAILURE)
                        r = 0;
        }
        return r < 0 ? -ECONNRESET : -ECANCELED;
}

int job_wait_run(JobWait *w) {
        int r;

        if (w->n == 0)
                return 0;
        w->label = make_label(w);
        if (!w->label)
                return -ENOMEM;
        progress_init(&w->progress, w->label, options_have(&w->ctl->options, OPTION_QUIET));
        r = listen_events(w);
        if (r < 0)
                return r;
        while (r >= 0 && !w->is_over)
                r = sd_event_run(w->event, UINT64_MAX);
        progress_clear(&w->progress);
        if (r >= 0 && w->result == -ECONNRESET && w->n_interrupts == 1 && w->ctl->client.endpoint.host)
                r = cancel_anew(w);
        return r < 0 ? r : w->result;
}
