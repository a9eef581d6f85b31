/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/job-run.h"

#include <inttypes.h>
#include <string.h>

#include "ctl/exit-code.h"
#include "ctl/job-report.h"
#include "ctl/verbs.h"
#include "dbus/names.h"

/* Only what the user asked for: the daemon's configuration decides the rest. */
static int append_options(sd_bus_message *m, const Options *o) {
        static const struct {
                OptionId id;
                const char *key;
        } flags[] = {
                { OPTION_DRY_RUN, "dry-run" }, { OPTION_FORCE, "force" },   { OPTION_PARENTS, "parents" },
                { OPTION_RESET, "reset" },     { OPTION_REPAIR, "repair" },
        };
        int r = sd_bus_message_open_container(m, 'a', "{sv}");

        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(flags); i++)
                if (options_have(o, flags[i].id))
                        r = sd_bus_message_append(m, "{sv}", flags[i].key, "b", true);
        if (r >= 0 && o->method)
                r = sd_bus_message_append(m, "{sv}", "method", "s", o->method);
        if (r >= 0 && o->standing)
                r = sd_bus_message_append(m, "{sv}", "standing", "s", o->standing);
        if (r >= 0 && options_have(o, OPTION_DEPTH))
                r = sd_bus_message_append(m, "{sv}", "depth", "u", o->depth);
        if (r >= 0 && options_have(o, OPTION_DATA))
                r = sd_bus_message_append(m, "{sv}", "data", "t", o->data_bytes);
        if (r >= 0 && o->set)
                r = sd_bus_message_append(m, "{sv}", "set", "s", o->set);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

int job_start(Ctl *c, JobWait *w, const char *subject, const char *argument) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        const char *object;
        int r;

        if ((r = client_acquire(&c->client)) < 0 ||
            (r = sd_bus_message_new_method_call(
                     c->client.bus, &m, OVLFIND_BUS_NAME, OVLFIND_OBJECT_PATH, OVLFIND_MANAGER_INTERFACE,
                     c->verb->member)) < 0 ||
            (r = sd_bus_message_append(m, "s", subject)) < 0 || (r = append_options(m, &c->options)) < 0 ||
            (r = client_send(&c->client, m, &reply)) < 0 ||
            (r = sd_bus_message_read(reply, "o", &object)) < 0 ||
            (r = job_wait_add(w, object, argument, subject)) < 0)
                return client_report(&c->client, r, "%s '%s'", c->verb->name, argument);
        return 0;
}

/* The problems of all jobs, in one list. */
static int print_problems_json(Ctl *c, JobWait *w) {
        _cleanup_record_list_ RecordList list = { 0 };

        for (size_t i = 0; i < job_wait_count(w); i++) {
                const RecordList *l = record_get_list(&job_wait_get(w, i)->record, "problems");

                for (size_t k = 0; k < l->n; k++)
                        if (record_list_take(&list, &l->items[k]) < 0)
                                return -ENOMEM;
        }
        return ctl_print_json(c, "problems", &list);
}

static int print_json(Ctl *c, JobWait *w) {
        _cleanup_record_list_ RecordList list = { 0 };

        if (strcmp(c->verb->name, "verify") == 0)
                return print_problems_json(c, w);

        for (size_t i = 0; i < job_wait_count(w); i++)
                if (record_list_take(&list, &job_wait_get(w, i)->record) < 0)
                        return -ENOMEM;
        return ctl_print_json(c, "jobs", &list);
}

/* --no-block: what was started, by number. */
static int print_started(Ctl *c, JobWait *w) {
        int r = 0;

        for (size_t i = 0; i < job_wait_count(w) && r >= 0; i++) {
                WaitedJob *j = job_wait_get(w, i);

                r = job_wait_fetch(w, j);
                if (r < 0)
                        return client_report(&c->client, r, "read the job of '%s'", j->argument);
                if (c->options.json == JSON_OFF)
                        (void) printf("%" PRIu64 "\n", record_get_number(&j->record, "id", 0));
        }
        if (c->options.json != JSON_OFF)
                r = print_json(c, w);
        return r < 0 ? print_oom() : EXIT_CODE_OK;
}

static int report_all(Ctl *c, JobWait *w) {
        int code = EXIT_CODE_OK;

        for (size_t i = 0; i < job_wait_count(w); i++) {
                WaitedJob *j = job_wait_get(w, i);
                int r = j->is_finished ? job_report(c, j) : EXIT_CODE_FAILURE;

                code = code == EXIT_CODE_OK ? r : code;
        }
        if (c->options.json != JSON_OFF && print_json(c, w) < 0)
                return print_oom();
        return code;
}

static int wait_and_report(Ctl *c, JobWait *w) {
        int r, code;

        r = job_wait_run(w);
        code = report_all(c, w);
        if (r == -EINTR)
                print_error("left the jobs to themselves; 'ovlfinctl jobs' shows them");
        else if (r == -ECANCELED)
                print_error(
                        "canceled the jobs; 'ovlfinctl --host=%s jobs' shows how they end",
                        c->client.endpoint.host);
        else if (r == -ECONNRESET || r == -ENOTCONN)
                print_error("lost the connection to ovlfind; its journal tells what became of the jobs");
        else if (r < 0)
                print_error("cannot wait for the jobs: %s", strerror(-r));
        return r < 0 ? EXIT_CODE_FAILURE : code;
}

int job_run(Ctl *c, JobWait *w) {
        return options_have(&c->options, OPTION_NO_BLOCK) ? print_started(c, w) : wait_and_report(c, w);
}
