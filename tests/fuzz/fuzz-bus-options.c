/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Options of a method call with any keys, types and values: refused with words, or options that a job can
 * have. Input: the path, then for each option its key, ended by NUL, a type, and a value. */
#include <string.h>

#include "api/bus-manager.c" /* for read_option(), check_options() */
#include "base/utf8.h"
#include "fuzz-bus.h"

static int append_value(sd_bus_message *m, Input *in) {
        static const char *const words[] = { "auto", "exchange", "mark", "keep", "wait", "" };
        uint8_t type = input_byte(in);

        switch (type % 6) {
        case 0:
                return sd_bus_message_append(m, "v", "b", type >> 7);
        case 1:
                return sd_bus_message_append(m, "v", "t", input_number(in));
        case 2:
                return sd_bus_message_append(m, "v", "u", (uint32_t) input_number(in));
        case 3: {
                _cleanup_free_ char *s = input_string(in), *escaped = utf8_escape(s);

                return sd_bus_message_append(m, "v", "s", escaped);
        }
        case 4:
                return sd_bus_message_append(m, "v", "s", words[(type >> 4) % ELEMENTSOF(words)]);
        default:
                return sd_bus_message_append(m, "v", "as", 2, "a", "b");
        }
}

static sd_bus_message *message(const char *path, Input *in) {
        sd_bus_message *m = NULL;

        HOLDS(sd_bus_message_new_method_call(fuzz_bus(), &m, "a.b", "/a", "a.b", "Finalize") >= 0);
        HOLDS(bus_append_text(m, path) >= 0 && sd_bus_message_open_container(m, 'a', "{sv}") >= 0);
        for (unsigned n = 0; n < 8 && !input_is_empty(in); n++) {
                _cleanup_free_ char *key = input_string(in), *escaped = utf8_escape(key);

                HOLDS(sd_bus_message_open_container(m, 'e', "sv") >= 0);
                HOLDS(sd_bus_message_append(m, "s", escaped) >= 0 && append_value(m, in) >= 0);
                HOLDS(sd_bus_message_close_container(m) >= 0);
        }
        HOLDS(sd_bus_message_close_container(m) >= 0 && sd_bus_message_seal(m, 1, 0) >= 0);
        return m;
}

static void check(JobType type, const JobOptions *o) {
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        Job *j;
        int r = check_options(type, o, &failure);

        HOLDS(r == 0 || (r == -EINVAL && failure.kind == FAILURE_INVALID && failure.message));
        HOLDS(!o->has_method || method_to_string(o->method));
        HOLDS(!o->has_standing || standing_to_string(o->standing));
        if (r < 0)
                return;
        HOLDS(job_new(1, type, "o", "/m", "p", &j) == 0 && job_set_options(j, o) == 0);
        HOLDS(job_options_equal(&j->options, o));
        (void) job_free(j);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        Input in = input_begin(data, size);
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        _cleanup_free_ char *path = input_string(&in), *read = NULL;
        JobOptions options = { .uid = 0 };
        sd_bus_message *m = message(path, &in);
        int r;

        HOLDS(bus_read_text(m, &read) == 0 && strcmp(read, path) == 0);
        r = bus_read_options(m, read_option, &options, &failure);
        HOLDS(r >= 0 || (failure.kind != FAILURE_NONE && failure.message));
        for (JobType type = 0; r >= 0 && type < _JOB_TYPE_MAX; type++)
                check(type, &options);
        (void) sd_bus_message_unref(m);
        return 0;
}
