/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* finalize, unfinalize: start a job for each path, wait for them, and say how they ended. */
#include <string.h>

#include "ctl/job-run.h"
#include "ctl/local-job.h"
#include "ctl/target.h"
#include "ctl/verbs.h"
#include "dbus/names.h"

/* finalize or unfinalize, in the words each needs. */
typedef struct Kind {
        const char *type;
        const char *member;
} Kind;

static void strv_freep(char ***l) {
        for (char **s = *l; s && *s; s++)
                free(*s);
        free(*l);
}

/* Only what the user asked for: the daemon's configuration decides the rest. */
static int append_options(sd_bus_message *m, const Options *o) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0 && options_have(o, OPTION_DRY_RUN))
                r = job_append_option(m, "dry-run", "b", true);
        if (r >= 0 && options_have(o, OPTION_FORCE))
                r = job_append_option(m, "force", "b", true);
        if (r >= 0 && o->method)
                r = job_append_option(m, "method", "s", o->method);
        if (r >= 0 && options_have(o, OPTION_DEPTH))
                r = job_append_option(m, "depth", "u", o->depth);
        if (r >= 0 && options_have(o, OPTION_PARENTS))
                r = job_append_option(m, "parents", "b", true);
        if (r >= 0 && options_have(o, OPTION_DATA))
                r = job_append_option(m, "data", "t", o->data_bytes);
        if (r >= 0 && options_have(o, OPTION_RESET))
                r = job_append_option(m, "reset", "b", true);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

/* Starts one job. 0, or the exit code after a message. */
static int job_start(Ctl *c, const Kind *k, JobWait *w, const char *argument, const char *path) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
        const char *object;
        int r;

        r = sd_bus_message_new_method_call(
                c->client.bus, &m, OVLFIND_BUS_NAME, OVLFIND_OBJECT_PATH, OVLFIND_MANAGER_INTERFACE,
                k->member);
        if (r >= 0)
                r = sd_bus_message_append(m, "s", path);
        if (r >= 0)
                r = append_options(m, &c->options);
        if (r >= 0)
                r = client_send(&c->client, m, &e, &reply);
        if (r >= 0)
                r = sd_bus_message_read(reply, "o", &object);
        if (r >= 0)
                r = job_wait_add(w, object, argument, path);
        return r < 0 ? (int) client_report(&c->client, &e, r, "%s '%s'", k->type, argument) : 0;
}

/* All paths must be there before any job starts: half a command line is what nobody asked for. */
static int resolve_all(const Kind *k, int argc, char **argv, char ***ret) {
        _cleanup_(strv_freep) char **paths = calloc((size_t) argc + 1, sizeof(*paths));

        if (!paths)
                return print_oom();
        for (int i = 0; i < argc; i++) {
                int code = path_resolve(k->type, argv[i], &paths[i]);

                if (code != 0)
                        return code;
        }
        *ret = TAKE_PTR(paths);
        return 0;
}

static int run(Ctl *c, const Kind *k, int argc, char **argv) {
        _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
        _cleanup_(strv_freep) char **paths = NULL;
        _cleanup_(job_wait_freep) JobWait *w = NULL;
        int r, code = EXIT_CODE_OK, ended;

        if (options_have(&c->options, OPTION_OFFLINE | OPTION_UPPER | OPTION_LOWER))
                return local_job(c, k->type, argc, argv);
        r = resolve_all(k, argc, argv, &paths);
        if (r != 0)
                return r;
        r = job_wait_new(c, k->type, &w, &e);
        if (r < 0)
                return (int) client_report(&c->client, &e, r, "%s '%s'", k->type, argv[0]);
        for (int i = 0; i < argc; i++) {
                r = job_start(c, k, w, argv[i], paths[i]);
                code = code == EXIT_CODE_OK ? r : code;
                if (r == EXIT_CODE_UNREACHABLE)
                        break;
        }
        if (job_wait_count(w) == 0)
                return code;
        ended = job_run(c, k->type, w);
        return code == EXIT_CODE_OK ? ended : code;
}

int verb_finalize(Ctl *c, int argc, char **argv) {
        static const Kind kind = { "finalize", "Finalize" };

        return run(c, &kind, argc, argv);
}

int verb_unfinalize(Ctl *c, int argc, char **argv) {
        static const Kind kind = { "unfinalize", "Unfinalize" };

        return run(c, &kind, argc, argv);
}
