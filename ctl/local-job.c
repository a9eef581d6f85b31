/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/local-job.h"

#include <inttypes.h>
#include <signal.h>
#include <string.h>

#include "base/utf8.h"
#include "ctl/exit-code.h"
#include "ctl/local-worker.h"
#include "ctl/verbs.h"

/* Where the daemon keeps its records, too: it goes on with them. */
static const char *state_directory(void) {
        const char *s = getenv("STATE_DIRECTORY");

        return s && *s ? s : "/var/lib/ovlfind";
}

static int check_options(const Ctl *c) {
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
        print_error("%s: %s", c->verb->name, why);
        return EXIT_CODE_USAGE;
}

static void request_fill(WireRequest *q, const Ctl *c, const char *upper, const char *path) {
        const Options *o = &c->options;

        wire_request_add(q, WIRE_VERB, c->verb->name);
        wire_request_add(q, WIRE_OFFLINE, "1");
        wire_request_add(q, WIRE_UPPER_DIR, upper);
        wire_request_add(q, WIRE_LOWER_DIR, o->lower);
        wire_request_add(q, WIRE_STATE_DIR, state_directory());
        wire_request_add(q, WIRE_PATH, path);
        wire_request_add(q, WIRE_QUIET_USEC, "0");
        wire_request_add_optional(q, WIRE_METHOD, o->method);
        if (options_have(o, OPTION_DEPTH))
                wire_request_add_number(q, WIRE_DEPTH, o->depth);
        wire_request_add_flag(q, WIRE_PARENTS, options_have(o, OPTION_PARENTS));
        wire_request_add_flag(q, WIRE_RESET, options_have(o, OPTION_RESET));
        wire_request_add_flag(q, WIRE_FORCE, options_have(o, OPTION_FORCE));
}

typedef struct Answer {
        const Ctl *ctl;
        uint64_t entries_done, errors; /* of the last record, as a rule the result */
} Answer;

static void print_note(const Ctl *c, const WireRecord *w) {
        _cleanup_free_ char *text = utf8_escape_line(w->text), *path = utf8_escape_line(w->path);

        if (!options_have(&c->options, OPTION_QUIET))
                print_error("note: '%s': %s", path ?: "?", text ?: "?");
}

static int on_record(const WireRecord *w, void *userdata) {
        bool is_left = w->kind == WIRE_DIRECTORY && *w->text &&
                (w->state == DIRECTORY_PENDING || w->state == DIRECTORY_EXCLUDED);
        Answer *a = userdata;

        a->entries_done = w->entries_done;
        a->errors = w->errors;
        if (is_left || w->kind == WIRE_NOTE)
                print_note(a->ctl, w);
        return 0;
}

static int list_add(RecordList *l, const char *path, const Answer *a, const Failure *f) {
        _cleanup_record_ Record record = { 0 };

        record_set_string(&record, "type", a->ctl->verb->name);
        record_set_name(&record, "path", path);
        record_set_string(&record, "state", f->kind == FAILURE_NONE ? "done" : "failed");
        record_set_number(&record, "entries_done", a->entries_done);
        record_set_number(&record, "errors", a->errors);
        if (f->message)
                record_set_name(&record, "error_message", f->message);
        return record_list_take(l, &record);
}

static void print_summary(const char *path, const Answer *a) {
        const Ctl *c = a->ctl;
        _cleanup_free_ char *safe = utf8_escape_line(path);

        if (c->options.json == JSON_OFF && !options_have(&c->options, OPTION_QUIET))
                (void) printf(
                        "%sd '%s': %" PRIu64 " entr%s\n", c->verb->name, safe ?: "?", a->entries_done,
                        PLURAL_Y(a->entries_done));
}

static int run_one(Ctl *c, const char *upper, const char *argument, RecordList *l) {
        _cleanup_failure_ Failure f = FAILURE_INIT;
        Answer a = { .ctl = c };
        WireRequest q = { 0 };
        int r;

        request_fill(&q, c, upper, argument + strspn(argument, "/"));
        /* It removes what it made beside the upper, and keeps the old tree until then. */
        r = local_worker_run(&q, LOCAL_WORKER_FINISH, on_record, &a, &f);
        if (r < 0)
                print_error("cannot %s '%s': %s", c->verb->name, argument, f.message ?: strerror(-r));
        else
                print_summary(argument, &a);
        if (list_add(l, argument, &a, &f) < 0)
                return print_oom();
        return r < 0 ? EXIT_CODE_FAILURE : EXIT_CODE_OK;
}

int local_job(Ctl *c, int argc, char **argv) {
        _cleanup_record_list_ RecordList l = { 0 };
        _cleanup_free_ char *upper = NULL;
        int code = check_options(c);

        if (code != 0)
                return code;
        upper = realpath(c->options.upper, NULL);
        if (!upper) {
                print_error(
                        "%s: cannot open the upper layer '%s': %s", c->verb->name, c->options.upper,
                        strerror(errno));
                return EXIT_CODE_NOT_MANAGED;
        }
        /* The worker gets Ctrl-C as well, and ends by itself; ending before it would kill it. */
        (void) signal(SIGINT, SIG_IGN);
        for (int i = 0; i < argc; i++) {
                int r = run_one(c, upper, argv[i], &l);

                code = code == EXIT_CODE_OK ? r : code;
        }
        if (c->options.json != JSON_OFF && ctl_print_json(c, "jobs", &l) < 0)
                return print_oom();
        return code;
}
