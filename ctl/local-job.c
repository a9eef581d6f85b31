/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/local-job.h"

#include <inttypes.h>
#include <signal.h>
#include <string.h>

#include "base/utf8.h"
#include "ctl/exit-code.h"
#include "ctl/local-worker.h"

/* Where the daemon keeps its records, too: it goes on with them. */
static const char *state_directory(void) {
        const char *s = getenv("STATE_DIRECTORY");

        return s && *s ? s : "/var/lib/ovlfind";
}

static int check_options(const Ctl *c, const char *type) {
        const Options *o = &c->options;
        const char *why = NULL;

        if (!options_have(o, OPTION_OFFLINE) || !o->upper || !o->lower)
                why = "--offline, --upper= and --lower= go together";
        else if (o->lower[0] != '/')
                why = "--lower= wants absolute paths";
        else if (options_have(o, OPTION_NO_BLOCK | OPTION_DRY_RUN | OPTION_STANDING | OPTION_DATA))
                why = "with --offline there is no --no-block, --dry-run, --standing or --data";
        else if (
                options_have(o, OPTION_DEPTH | OPTION_PARENTS) && o->method &&
                strcmp(o->method, "exchange") == 0)
                why = "--depth= and --parents need method 'mark'";
        if (!why)
                return 0;
        print_error("%s: %s", type, why);
        return EXIT_CODE_USAGE;
}

static int
request_fill(WireRequest *q, const Options *o, const char *type, const char *upper, const char *path) {
        int r;

        if ((r = wire_request_add(q, WIRE_VERB, type)) < 0 ||
            (r = wire_request_add(q, WIRE_OFFLINE, "1")) < 0 ||
            (r = wire_request_add(q, WIRE_UPPER_DIR, upper)) < 0 ||
            (r = wire_request_add(q, WIRE_LOWER_DIR, o->lower)) < 0 ||
            (r = wire_request_add(q, WIRE_STATE_DIR, state_directory())) < 0 ||
            (r = wire_request_add(q, WIRE_PATH, path)) < 0 ||
            (r = wire_request_add(q, WIRE_QUIET_USEC, "0")) < 0)
                return r;
        if (o->method && (r = wire_request_add(q, WIRE_METHOD, o->method)) < 0)
                return r;
        if (options_have(o, OPTION_DEPTH) &&
            (r = wire_request_addf(q, WIRE_DEPTH, "%" PRIu32, o->depth)) < 0)
                return r;
        if (options_have(o, OPTION_PARENTS) && (r = wire_request_add(q, WIRE_PARENTS, "1")) < 0)
                return r;
        if (options_have(o, OPTION_RESET) && (r = wire_request_add(q, WIRE_RESET, "1")) < 0)
                return r;
        return options_have(o, OPTION_FORCE) ? wire_request_add(q, WIRE_FORCE, "1") : 0;
}

static void print_note(const Ctl *c, const WireRecord *w) {
        _cleanup_free_ char *text = utf8_escape_line(w->text), *path = utf8_escape_line(w->path);

        if (!options_have(&c->options, OPTION_QUIET))
                print_error("note: '%s': %s", path ?: "?", text ?: "?");
}

/* What stays as it is, and why. */
static void take_directory(const Ctl *c, const WireRecord *w) {
        if (*w->text && (w->state == DIRECTORY_PENDING || w->state == DIRECTORY_EXCLUDED))
                print_note(c, w);
}

static int results_receive(const Ctl *c, int fd, WireRecord *wire, Failure *reterr) {
        int r;

        while ((r = wire_receive(fd, wire)) > 0) {
                if (wire->kind == WIRE_RESULT)
                        return worker_result_to_failure(wire, reterr);
                if (wire->kind == WIRE_NOTE)
                        print_note(c, wire);
                if (wire->kind == WIRE_DIRECTORY)
                        take_directory(c, wire);
        }
        return r < 0 ? failure_set_errno(reterr, r, "cannot read the worker's answer")
                     : failure_set(reterr, FAILURE_FAILED, EIO, "the worker ended without a result");
}

static int
work(Ctl *c, const char *type, const char *upper, const char *path, WireRecord *wire, Failure *reterr) {
        WireRequest q = { 0 };
        int fd = -EBADF, r;
        pid_t pid = 0;

        r = worker_spawn(&fd, &pid);
        if (r < 0)
                return failure_set_errno(reterr, r, "cannot start '%s'", worker_path());
        r = request_fill(&q, &c->options, type, upper, path);
        if (r >= 0)
                r = wire_request_send(fd, &q);
        wire_request_done(&q);
        r = r < 0 ? failure_set_errno(reterr, r, "cannot ask the worker")
                  : results_receive(c, fd, wire, reterr);
        /* It removes what it made beside the upper, and keeps the old tree until then. */
        worker_wait(pid);
        (void) fd_close(fd);
        return r;
}

static int
list_add(RecordList *l, const char *type, const char *path, const WireRecord *wire, const Failure *f) {
        _cleanup_record_ Record record = { 0 };
        int r;

        r = record_set_string(&record, "type", type);
        if (r >= 0)
                r = record_set_name(&record, "path", path);
        if (r >= 0)
                r = record_set_string(&record, "state", f->kind == FAILURE_NONE ? "done" : "failed");
        if (r >= 0)
                r = record_set_number(&record, "entries_done", wire->entries_done);
        if (r >= 0)
                r = record_set_number(&record, "errors", wire->errors);
        if (r >= 0 && f->message)
                r = record_set_name(&record, "error_message", f->message);
        return r < 0 ? r : record_list_take(l, &record);
}

static void print_summary(const Ctl *c, const char *type, const char *path, const WireRecord *wire) {
        _cleanup_free_ char *safe = utf8_escape_line(path);

        if (c->options.json == JSON_OFF && !options_have(&c->options, OPTION_QUIET))
                (void) printf(
                        "%sd '%s': %" PRIu64 " entr%s\n", type, safe ?: "?", wire->entries_done,
                        PLURAL_Y(wire->entries_done));
}

static int run_one(Ctl *c, const char *type, const char *upper, const char *argument, RecordList *l) {
        _cleanup_free_ WireRecord *wire = calloc(1, sizeof(*wire));
        _cleanup_failure_ Failure f = FAILURE_INIT;
        int r;

        if (!wire)
                return print_oom();
        r = work(c, type, upper, argument + strspn(argument, "/"), wire, &f);
        if (r < 0)
                print_error("cannot %s '%s': %s", type, argument, f.message ?: strerror(-r));
        else
                print_summary(c, type, argument, wire);
        if (list_add(l, type, argument, wire, &f) < 0)
                return print_oom();
        return r < 0 ? EXIT_CODE_FAILURE : EXIT_CODE_OK;
}

int local_job(Ctl *c, const char *type, int argc, char **argv) {
        _cleanup_record_list_ RecordList l = { 0 };
        _cleanup_free_ char *upper = NULL;
        int code = check_options(c, type);

        if (code != 0)
                return code;
        upper = realpath(c->options.upper, NULL);
        if (!upper) {
                print_error(
                        "%s: cannot open the upper layer '%s': %s", type, c->options.upper, strerror(errno));
                return EXIT_CODE_NOT_MANAGED;
        }
        /* The worker gets Ctrl-C as well, and ends by itself; ending before it would kill it. */
        (void) signal(SIGINT, SIG_IGN);
        for (int i = 0; i < argc; i++) {
                int r = run_one(c, type, upper, argv[i], &l);

                code = code == EXIT_CODE_OK ? r : code;
        }
        if (c->options.json != JSON_OFF && ctl_print_json(c, "jobs", &l) < 0)
                return print_oom();
        return code;
}
