/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* finalize, unfinalize, refresh, prune, verify: start a job for each path, wait for them, and say how they
 * ended. All paths are resolved before the first job is started: half a command line is what nobody asked
 * for. Only options that the user gave are sent: the daemon's configuration decides the rest. */
#include <string.h>

#include "base/strv.h"
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
} Kind;

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

/* With overlays names of them count, too. All paths must be there before any job starts: half a command line
 * is what nobody asked for. */
static int
resolve_all(Ctl *c, const Kind *k, const RecordList *overlays, int argc, char **argv, char ***ret) {
        _cleanup_strv_free_ char **paths = calloc((size_t) argc + 1, sizeof(*paths));

        if (!paths)
                return print_oom();
        for (int i = 0; i < argc; i++) {
                int code = overlays && !argument_is_path(argv[i])
                        ? resolve_overlay(k, overlays, argv[i], &paths[i])
                        : path_resolve(c, k->type, argv[i], &paths[i]);

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
                r = job_start(c, w, k->type, k->member, paths[i], argv[i]);
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
        _cleanup_strv_free_ char **paths = NULL;
        int r;

        if (options_have(&c->options, OPTION_OFFLINE | OPTION_UPPER | OPTION_LOWER))
                return local_job(c, k->type, argc, argv);
        r = resolve_all(c, k, /* overlays= */ NULL, argc, argv, &paths);
        return r != 0 ? r : run_paths(c, k, argc, argv, paths);
}

/* Names of overlays count as well as paths, and no argument means all of them. */
static int run_overlays(Ctl *c, const Kind *k, int argc, char **argv) {
        _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
        _cleanup_record_list_ RecordList overlays = { 0 };
        _cleanup_strv_free_ char **paths = NULL;
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
        r = resolve_all(c, k, &overlays, argc, argv, &paths);
        return r != 0 ? r : run_paths(c, k, argc, argv, paths);
}

int verb_finalize(Ctl *c, int argc, char **argv) {
        static const Kind kind = { "finalize", "Finalize" };

        return run(c, &kind, argc, argv);
}

int verb_unfinalize(Ctl *c, int argc, char **argv) {
        static const Kind kind = { "unfinalize", "Unfinalize" };

        return run(c, &kind, argc, argv);
}

int verb_refresh(Ctl *c, int argc, char **argv) {
        static const Kind kind = { "refresh", "Refresh" };

        return run(c, &kind, argc, argv);
}

int verb_prune(Ctl *c, int argc, char **argv) {
        static const Kind kind = { "prune", "Prune" };

        return run_overlays(c, &kind, argc, argv);
}

int verb_verify(Ctl *c, int argc, char **argv) {
        static const Kind kind = { "verify", "Verify" };

        return options_have(&c->options, OPTION_OFFLINE) ? verify_offline(c, argc, argv)
                                                         : run_overlays(c, &kind, argc, argv);
}
