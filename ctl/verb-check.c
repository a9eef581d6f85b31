/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* check: the preconditions of an overlay, a line each, from the daemon or (without one, or for an overlay
 * that is not configured) from a worker of our own. Nothing is judged here: the levels come from core, and
 * the worst one makes the exit code. What is not "ok" names its section of docs/checks.md. */
#include <string.h>

#include "base/states.h"
#include "base/utf8.h"
#include "ctl/docs.h"
#include "ctl/local-check.h"
#include "ctl/state-color.h"
#include "ctl/target.h"
#include "ctl/verbs.h"
#include "dbus/names.h"

#define LEVEL_WIDTH 7 /* "warning" */
#define ID_WIDTH_MAX 24

/* Asks the daemon about one overlay; appends to *l. */
static int remote_check(Ctl *c, const char *subject, const char *overlay, RecordList *l) {
        _cleanup_record_list_ RecordList checks = { 0 };
        int r = client_call_list(&c->client, "Check", &checks, "s", subject);

        for (size_t i = 0; i < checks.n && r >= 0; i++) {
                if (record_is(&checks.items[i], "advice", ""))
                        record_remove(&checks.items[i], "advice");
                if (overlay)
                        record_set_string(&checks.items[i], "overlay", overlay);
                r = record_list_take(l, &checks.items[i]);
        }
        return r;
}

/* Width of the id column. */
static int id_width(const RecordList *l) {
        size_t width = 0;

        for (size_t i = 0; i < l->n; i++) {
                size_t n = strlen(record_get_string(&l->items[i], "id") ?: "");

                width = n > width ? n : width;
        }
        return (int) (width < ID_WIDTH_MAX ? width : ID_WIDTH_MAX);
}

static int print_check(const Ctl *c, const Record *r, int width) {
        const char *level = record_get_string(r, "level") ?: "?", *advice = record_get_string(r, "advice");
        _cleanup_free_ char *id = utf8_escape_line(record_get_string(r, "id") ?: "?"),
                            *text = utf8_escape_line(record_get_string(r, "text") ?: ""),
                            *hint = utf8_escape_line(advice ?: "");
        Color color = check_level_color(level);

        if (!id || !text || !hint)
                return -ENOMEM;
        (void) printf(
                "%s%-*s%s  %-*s  %s\n", term_color(&c->term, color), LEVEL_WIDTH, level,
                color == COLOR_NONE ? "" : term_color(&c->term, COLOR_NONE), width, id, text);
        if (*hint)
                (void) printf("%*s  %*s  -> %s\n", LEVEL_WIDTH, "", width, "", hint);
        if (check_level_from_string(level) > CHECK_OK)
                (void) printf("%*s  %*s  -> see " DOCS_URI "checks.md#%s\n", LEVEL_WIDTH, "", width, "", id);
        return 0;
}

/* Several overlays: each under its name. */
static int print_text(Ctl *c, const RecordList *l) {
        const char *previous = NULL;
        int width = id_width(l), r = 0;

        term_open_pager(&c->term);
        for (size_t i = 0; i < l->n && r >= 0; i++) {
                const char *overlay = record_get_string(&l->items[i], "overlay");

                if (overlay && ctl_want_legend(c) && (!previous || strcmp(previous, overlay) != 0)) {
                        _cleanup_free_ char *name = utf8_escape_line(overlay);

                        (void) printf("%s%s:\n", previous ? "\n" : "", name ?: "?");
                        previous = overlay;
                }
                r = print_check(c, &l->items[i], width);
        }
        return r;
}

static int report(Ctl *c, RecordList *l) {
        int code = EXIT_CODE_OK;

        for (size_t i = 0; i < l->n; i++)
                if (check_level_from_string(record_get_string(&l->items[i], "level")) == CHECK_FAIL)
                        code = EXIT_CODE_FAILURE;
        if (options_have(&c->options, OPTION_QUIET) && c->options.json == JSON_OFF)
                return code;
        if ((c->options.json != JSON_OFF ? ctl_print_json(c, "checks", l) : print_text(c, l)) < 0)
                return print_oom();
        return code;
}

static int check_local(Ctl *c, const char *argument, const char *path) {
        _cleanup_record_list_ RecordList l = { 0 };
        _cleanup_failure_ Failure f = FAILURE_INIT;
        _cleanup_free_ char *name = utf8_unescape(path), *root = name ? mount_root(name) : NULL;

        if (!root)
                return print_oom();
        if (local_check(root, &l, &f) < 0) {
                print_error("cannot check '%s': %s", argument, f.message ?: "unknown reason");
                return exit_code_from_failure(f.kind) ?: EXIT_CODE_FAILURE;
        }
        return report(c, &l);
}

static int check_one(Ctl *c, const char *argument) {
        _cleanup_record_list_ RecordList l = { 0 };
        _cleanup_free_ char *path = NULL;
        const sd_bus_error *e = &c->client.error;
        bool is_path = argument_is_path(argument);
        ExitCode code;
        int r;

        if (is_path) {
                r = path_resolve(c, "check", argument, &path);
                if (r != 0)
                        return r;
        }
        r = remote_check(c, path ?: argument, /* overlay= */ NULL, &l);
        if (r >= 0)
                return report(c, &l);
        code = sd_bus_error_is_set(e) ? exit_code_from_error_name(e->name) : EXIT_CODE_UNREACHABLE;
        if (is_path && !endpoint_is_remote(&c->client.endpoint) &&
            (code == EXIT_CODE_UNREACHABLE || code == EXIT_CODE_NOT_MANAGED))
                return check_local(c, argument, path);
        return client_report(&c->client, r, "check '%s'", argument);
}

static int check_all(Ctl *c) {
        _cleanup_record_list_ RecordList overlays = { 0 }, l = { 0 };
        int r = client_list(&c->client, "ListOverlays", OVLFIND_OVERLAY_INTERFACE, &overlays);

        if (r < 0)
                return client_report(
                        &c->client, r, "check all overlays (name a mount point to do without a daemon)");
        for (size_t i = 0; i < overlays.n; i++) {
                const char *name = record_get_string(&overlays.items[i], "name");

                r = name ? remote_check(c, name, name, &l) : 0;
                if (r < 0)
                        return client_report(&c->client, r, "check '%s'", name);
        }
        if (overlays.n == 0 && ctl_want_legend(c))
                (void) puts("No overlays configured.");
        return report(c, &l);
}

int verb_check(Ctl *c, int argc, char **argv) {
        return argc > 0 ? check_one(c, argv[0]) : check_all(c);
}
