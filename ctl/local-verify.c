/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* verify --offline: the layers of an overlay that is not mounted, looked at by a worker of our own. Records
 * are not read, so only the upper and the lower layers are compared. One path after the other; the first
 * that cannot be looked at ends it. Nothing is repaired unless --repair asks for it. */
#include <stdlib.h>
#include <string.h>

#include "base/path-util.h"
#include "ctl/exit-code.h"
#include "ctl/local-worker.h"
#include "ctl/problems.h"

static void request_make(WireRequest *q, const Options *o, const char *upper, const char *path) {
        wire_request_add(q, WIRE_VERB, job_type_to_string(JOB_VERIFY));
        wire_request_add(q, WIRE_OFFLINE, "1");
        wire_request_add(q, WIRE_PATH, path);
        wire_request_add(q, WIRE_UPPER_DIR, upper);
        wire_request_add(q, WIRE_LOWER_DIR, o->lower);
        wire_request_add_optional(q, WIRE_WORK_DIR, o->work);
        wire_request_add_flag(q, WIRE_REPAIR, options_have(o, OPTION_REPAIR));
}

typedef struct Answer {
        RecordList list;
        const char *upper;
} Answer;

static int on_record(const WireRecord *w, void *userdata) {
        _cleanup_free_ char *path = NULL;
        _cleanup_record_ Record r = { 0 };
        Answer *a = userdata;

        if (w->kind != WIRE_PROBLEM)
                return 0;
        path = path_join(a->upper, w->path);
        if (!path)
                return -ENOMEM;
        record_set_string(&r, "kind", w->name);
        record_set_name(&r, "path", path);
        record_set_name(&r, "text", w->text);
        record_set_name(&r, "advice", w->lower_path);
        record_set_boolean(&r, "mended", w->state != 0);
        return record_list_take(&a->list, &r);
}

static int verify_one(Ctl *c, const char *upper, const char *path, RecordList *ret) {
        _cleanup_failure_ Failure f = FAILURE_INIT;
        Answer a = { .list = *ret, .upper = upper };
        WireRequest q = { 0 };
        int r;

        request_make(&q, &c->options, upper, path);
        r = local_worker_run(&q, LOCAL_WORKER_STOP, on_record, &a, &f);
        *ret = a.list;
        if (r >= 0)
                return 0;
        print_error("cannot verify '%s': %s", upper, f.message ?: strerror(-r));
        return (int) exit_code_from_failure(f.kind) ?: EXIT_CODE_FAILURE;
}

int verify_offline(Ctl *c, int argc, char **argv) {
        _cleanup_record_list_ RecordList l = { 0 };
        _cleanup_free_ char *upper = NULL;
        int r = 0, code;

        if (!c->options.upper || !c->options.lower) {
                print_error("verify --offline wants --upper= and --lower=, as mount -o takes them");
                return EXIT_CODE_USAGE;
        }
        upper = realpath(c->options.upper, NULL);
        if (!upper) {
                print_error("cannot verify '%s': %s", c->options.upper, strerror(errno));
                return EXIT_CODE_FAILURE;
        }
        if (argc == 0)
                r = verify_one(c, upper, "", &l);
        for (int i = 0; r == 0 && i < argc; i++) {
                const char *below = argv[i] + strspn(argv[i], "/");

                r = verify_one(c, upper, below, &l);
        }
        if (r != 0)
                return r;
        code = problems_exit_code(&l); /* printing JSON takes the list */
        if (c->options.json != JSON_OFF ? ctl_print_json(c, "problems", &l) < 0 : problems_print(c, &l) < 0)
                return print_oom();
        return code;
}
