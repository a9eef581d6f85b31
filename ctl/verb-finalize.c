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

static int resolve_overlay(const Verb *v, const RecordList *overlays, const char *name, char **ret) {
        const Record *o = overlay_find(overlays, name);
        const char *point = o ? record_get_string(o, "mount_point") : NULL;

        if (!point) {
                print_error(
                        "cannot %s '%s': there is no overlay of that name (a path has a '/')", v->name,
                        name);
                return EXIT_CODE_NOT_MANAGED;
        }
        *ret = strdup(point);
        return *ret ? 0 : print_oom();
}

/* With overlays names of them count, too. All paths must be there before any job starts: half a command line
 * is what nobody asked for. */
static int resolve_all(Ctl *c, const RecordList *overlays, int argc, char **argv, char ***ret) {
        _cleanup_strv_free_ char **paths = calloc((size_t) argc + 1, sizeof(*paths));

        if (!paths)
                return print_oom();
        for (int i = 0; i < argc; i++) {
                int code = overlays && !argument_is_path(argv[i])
                        ? resolve_overlay(c->verb, overlays, argv[i], &paths[i])
                        : path_resolve(c, c->verb->name, argv[i], &paths[i]);

                if (code != 0)
                        return code;
        }
        *ret = TAKE_PTR(paths);
        return 0;
}

static int run_paths(Ctl *c, int argc, char **argv, char **paths) {
        _cleanup_(job_wait_freep) JobWait *w = NULL;
        int r, code = EXIT_CODE_OK, ended;

        r = job_wait_new(c, &w);
        if (r < 0)
                return client_report(&c->client, r, "%s '%s'", c->verb->name, argv[0]);
        for (int i = 0; i < argc; i++) {
                r = job_start(c, w, paths[i], argv[i]);
                code = code == EXIT_CODE_OK ? r : code;
                if (r == EXIT_CODE_UNREACHABLE)
                        break;
        }
        if (job_wait_count(w) == 0)
                return code;
        ended = job_run(c, w);
        return code == EXIT_CODE_OK ? ended : code;
}

int verb_paths(Ctl *c, int argc, char **argv) {
        _cleanup_strv_free_ char **paths = NULL;
        int r;

        if (options_have(&c->options, OPTION_OFFLINE | OPTION_UPPER | OPTION_LOWER))
                return local_job(c, argc, argv);
        r = resolve_all(c, /* overlays= */ NULL, argc, argv, &paths);
        return r != 0 ? r : run_paths(c, argc, argv, paths);
}

/* Names of overlays count as well as paths, and no argument means all of them. */
int verb_overlays(Ctl *c, int argc, char **argv) {
        _cleanup_record_list_ RecordList overlays = { 0 };
        _cleanup_strv_free_ char **paths = NULL;
        _cleanup_free_ char **names = NULL;
        int r = client_list(&c->client, "ListOverlays", OVLFIND_OVERLAY_INTERFACE, &overlays);

        if (r < 0)
                return client_report(&c->client, r, "%s", c->verb->name);
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
        r = resolve_all(c, &overlays, argc, argv, &paths);
        return r != 0 ? r : run_paths(c, argc, argv, paths);
}

int verb_verify(Ctl *c, int argc, char **argv) {
        return options_have(&c->options, OPTION_OFFLINE) ? verify_offline(c, argc, argv)
                                                         : verb_overlays(c, argc, argv);
}
