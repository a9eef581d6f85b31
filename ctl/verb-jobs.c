/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* jobs, cancel, pause, resume. Jobs are read from the bus, one object each; one that is gone by then is
 * left out. To cancel and to pause are requests: what becomes of a job is not waited for. Several cancels
 * are all tried, and the first failure is the exit code. */

#include "base/states.h"
#include "ctl/format.h"
#include "ctl/job.h"
#include "ctl/target.h"
#include "ctl/verbs.h"
#include "dbus/names.h"

#define STATES "queued, running, applying, waiting, done, failed, canceled"

static bool is_state(const char *s) {
        return job_state_from_string(s) >= 0;
}

static void keep_wanted(const Ctl *c, const char *overlay, RecordList *l) {
        size_t n = 0;

        for (size_t i = 0; i < l->n; i++) {
                if (options_want_state(&c->options, record_get_string(&l->items[i], "state") ?: "") &&
                    (!overlay || record_is(&l->items[i], "overlay", overlay)))
                        l->items[n++] = l->items[i];
                else
                        record_done(&l->items[i]);
        }
        l->n = n;
}

int verb_jobs(Ctl *c, int argc, char **argv) {
        _cleanup_record_list_ RecordList list = { 0 };
        _cleanup_free_ char *overlay = NULL;
        int r = options_validate_states(&c->options, is_state, STATES);

        if (r == 0 && argc > 0)
                r = overlay_resolve(c, "list jobs of", argv[0], &overlay, /* ret_below= */ NULL);
        if (r != 0)
                return r;
        r = client_list(&c->client, "ListJobs", OVLFIND_JOB_INTERFACE, &list);
        if (r < 0)
                return client_report(&c->client, r, "list the jobs");
        keep_wanted(c, overlay, &list);
        record_list_sort(&list, "id");
        return job_print_table(c, &list);
}

int verb_cancel(Ctl *c, int argc, char **argv) {
        int code = EXIT_CODE_OK;
        uint32_t id;

        for (int i = 0; i < argc; i++)
                if (parse_u32(argv[i], &id) < 0) {
                        print_error("cannot cancel '%s': a job is a number, see 'ovlfinctl jobs'", argv[i]);
                        return EXIT_CODE_USAGE;
                }
        for (int i = 0; i < argc; i++) {
                int r;

                (void) parse_u32(argv[i], &id);
                r = client_call(&c->client, "CancelJob", /* ret= */ NULL, "u", id);
                if (r < 0) {
                        int k = client_report(&c->client, r, "cancel job %u", id);

                        code = code == EXIT_CODE_OK ? k : code;
                }
        }
        return code;
}

int verb_pause(Ctl *c, int argc, char **argv) {
        const char *what = c->verb->name;
        _cleanup_free_ char *overlay = NULL;
        int r = argc > 0 ? overlay_resolve(c, what, argv[0], &overlay, /* ret_below= */ NULL) : 0;

        if (r != 0)
                return r;
        r = client_call(&c->client, c->verb->member, /* ret= */ NULL, "s", overlay ?: "");
        if (r >= 0)
                return EXIT_CODE_OK;
        return argc > 0 ? client_report(&c->client, r, "%s '%s'", what, argv[0])
                        : client_report(&c->client, r, "%s", what);
}
