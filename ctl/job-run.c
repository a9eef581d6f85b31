/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/job-run.h"

#include <inttypes.h>
#include <string.h>

#include "ctl/exit-code.h"
#include "ctl/job-report.h"
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

int job_start(
        Ctl *c,
        JobWait *w,
        const char *type,
        const char *member,
        const char *subject,
        const char *argument) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
        const char *object;
        int r;

        if ((r = sd_bus_message_new_method_call(
                     c->client.bus, &m, OVLFIND_BUS_NAME, OVLFIND_OBJECT_PATH, OVLFIND_MANAGER_INTERFACE,
                     member)) < 0 ||
            (r = sd_bus_message_append(m, "s", subject)) < 0 || (r = append_options(m, &c->options)) < 0 ||
            (r = client_send(&c->client, m, &e, &reply)) < 0 ||
            (r = sd_bus_message_read(reply, "o", &object)) < 0 ||
            (r = job_wait_add(w, object, argument, subject)) < 0)
                return (int) client_report(&c->client, &e, r, "%s '%s'", type, argument);
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

static int print_json(Ctl *c, const char *type, JobWait *w) {
        _cleanup_record_list_ RecordList list = { 0 };

        if (strcmp(type, "verify") == 0)
                return print_problems_json(c, w);

        for (size_t i = 0; i < job_wait_count(w); i++)
                if (record_list_take(&list, &job_wait_get(w, i)->record) < 0)
                        return -ENOMEM;
        return ctl_print_json(c, "jobs", &list);
}

/* --no-block: what was started, by number. */
static int print_started(Ctl *c, const char *type, JobWait *w) {
        int r = 0;

        for (size_t i = 0; i < job_wait_count(w) && r >= 0; i++) {
                _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
                _cleanup_record_ Record record = { 0 };
                WaitedJob *j = job_wait_get(w, i);

                r = client_get_all(&c->client, j->object, OVLFIND_JOB_INTERFACE, &e, &record);
                if (r < 0)
                        return (int) client_report(&c->client, &e, r, "read the job of '%s'", j->argument);
                record_done(&j->record);
                j->record = TAKE_STRUCT(record);
                if (c->options.json == JSON_OFF)
                        (void) printf("%" PRIu64 "\n", record_get_number(&j->record, "id", 0));
        }
        if (c->options.json != JSON_OFF)
                r = print_json(c, type, w);
        return r < 0 ? print_oom() : EXIT_CODE_OK;
}

static int report_all(Ctl *c, const char *type, JobWait *w) {
        int code = EXIT_CODE_OK;

        for (size_t i = 0; i < job_wait_count(w); i++) {
                WaitedJob *j = job_wait_get(w, i);
                int r = j->is_finished ? job_report(c, type, j) : EXIT_CODE_FAILURE;

                code = code == EXIT_CODE_OK ? r : code;
        }
        if (c->options.json != JSON_OFF && print_json(c, type, w) < 0)
                return print_oom();
        return code;
}

static int wait_and_report(Ctl *c, const char *type, JobWait *w) {
        int r, code;

        r = job_wait_run(w);
        code = report_all(c, type, w);
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

int job_run(Ctl *c, const char *type, JobWait *w) {
        return options_have(&c->options, OPTION_NO_BLOCK) ? print_started(c, type, w)
                                                          : wait_and_report(c, type, w);
}
