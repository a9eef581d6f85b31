/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* finalize, unfinalize, refresh, prune, verify: start a job for each path, wait for them, and say how they
 * ended. All paths are resolved before the first job is started: half a command line is what nobody asked
 * for. Only options that the user gave are sent: the daemon's configuration decides the rest. */
#include <string.h>

#include "ctl/job-run.h"
#include "ctl/local-job.h"
#include "ctl/problems.h"
#include "ctl/target.h"
#include "ctl/verbs.h"
#include "dbus/names.h"

/* A verb, in the words each needs. */
typedef struct Kind {
        const char *type;
        const char *member;
        bool takes_overlays; /* by name, too; none given means all */
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
        if (r >= 0 && o->standing)
                r = job_append_option(m, "standing", "s", o->standing);
        if (r >= 0 && options_have(o, OPTION_DEPTH))
                r = job_append_option(m, "depth", "u", o->depth);
        if (r >= 0 && options_have(o, OPTION_PARENTS))
                r = job_append_option(m, "parents", "b", true);
        if (r >= 0 && options_have(o, OPTION_DATA))
                r = job_append_option(m, "data", "t", o->data_bytes);
        if (r >= 0 && options_have(o, OPTION_RESET))
                r = job_append_option(m, "reset", "b", true);
        if (r >= 0 && options_have(o, OPTION_REPAIR))
                r = job_append_option(m, "repair", "b", true);
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

static int resolve_overlay(const Kind *k, const RecordList *overlays, const char *name, char **ret) {
        const Record *o = overlay_find(overlays, name);
        const char *point = o ? record_get_string(o, "mount_point") : NULL;

        if (!point) {
                print_error(
                        "cannot %s '%s': there is no overlay of that name (a path has a '/')", k->type,
                        name);
                return EXIT_CODE_NOT_MANAGED;
        }
        *ret = strdup(point);
        return *ret ? 0 : print_oom();
}

/* All paths must be there before any job starts: half a command line is what nobody asked for. */
static int resolve_all(const Kind *k, const RecordList *overlays, int argc, char **argv, char ***ret) {
        _cleanup_(strv_freep) char **paths = calloc((size_t) argc + 1, sizeof(*paths));

        if (!paths)
                return print_oom();
        for (int i = 0; i < argc; i++) {
                int code = k->takes_overlays && !argument_is_path(argv[i])
                        ? resolve_overlay(k, overlays, argv[i], &paths[i])
                        : path_resolve(k->type, argv[i], &paths[i]);

                if (code != 0)
                        return code;
        }
        *ret = TAKE_PTR(paths);
        return 0;
}

static int run_paths(Ctl *c, const Kind *k, int argc, char **argv, char **paths) {
        _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
        _cleanup_(job_wait_freep) JobWait *w = NULL;
        int r, code = EXIT_CODE_OK, ended;

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

static int run(Ctl *c, const Kind *k, int argc, char **argv) {
        _cleanup_(strv_freep) char **paths = NULL;
        int r;

        if (options_have(&c->options, OPTION_OFFLINE | OPTION_UPPER | OPTION_LOWER))
                return local_job(c, k->type, argc, argv);
        r = resolve_all(k, /* overlays= */ NULL, argc, argv, &paths);
        return r != 0 ? r : run_paths(c, k, argc, argv, paths);
}

/* Names of overlays count as well as paths, and no argument means all of them. */
static int run_overlays(Ctl *c, const Kind *k, int argc, char **argv) {
        _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
        _cleanup_record_list_ RecordList overlays = { 0 };
        _cleanup_(strv_freep) char **paths = NULL;
        _cleanup_free_ char **names = NULL;
        int r = client_list(&c->client, "ListOverlays", OVLFIND_OVERLAY_INTERFACE, &e, &overlays);

        if (r < 0)
                return (int) client_report(&c->client, &e, r, "%s", k->type);
        if (argc == 0) {
                names = calloc(overlays.n + 1, sizeof(*names));
                for (size_t i = 0; names && i < overlays.n; i++)
                        names[i] = (char *) record_get_string(&overlays.items[i], "name");
                if (!names)
                        return print_oom();
                argc = (int) overlays.n;
                argv = names;
        }
        if (argc == 0) {
                if (ctl_want_legend(c))
                        (void) puts("No overlays configured.");
                return EXIT_CODE_OK;
        }
        r = resolve_all(k, &overlays, argc, argv, &paths);
        return r != 0 ? r : run_paths(c, k, argc, argv, paths);
}

int verb_finalize(Ctl *c, int argc, char **argv) {
        static const Kind kind = { "finalize", "Finalize", false };

        return run(c, &kind, argc, argv);
}

int verb_unfinalize(Ctl *c, int argc, char **argv) {
        static const Kind kind = { "unfinalize", "Unfinalize", false };

        return run(c, &kind, argc, argv);
}

int verb_refresh(Ctl *c, int argc, char **argv) {
        static const Kind kind = { "refresh", "Refresh", false };

        return run(c, &kind, argc, argv);
}

int verb_prune(Ctl *c, int argc, char **argv) {
        static const Kind kind = { "prune", "Prune", true };

        return run_overlays(c, &kind, argc, argv);
}

int verb_verify(Ctl *c, int argc, char **argv) {
        static const Kind kind = { "verify", "Verify", true };

        return options_have(&c->options, OPTION_OFFLINE) ? verify_offline(c, argc, argv)
                                                         : run_overlays(c, &kind, argc, argv);
}
