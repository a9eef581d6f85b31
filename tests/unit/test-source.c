/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The program is the worker of its own source, too: it counts packets up to "last", tells how many, and
 * waits for its end. */
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#include "overlays/source.h"
#include "unit.h"

#define PACKETS 2000

static unsigned n_started;
static bool is_it_wanted;

static bool is_wanted(Source *s) {
        return is_it_wanted;
}

static void make_request(Source *s, WireRequest *q) {
        wire_request_add(q, WIRE_VERB, job_type_to_string(JOB_PATHS));
}

static void on_started(Source *s) {
        n_started++;
        for (unsigned i = 1; i < PACKETS; i++)
                source_tell(s, "overlay name 0:42 /somewhere/below/a/mount/point");
        source_tell(s, "last");
}

static void on_use(Source *s, const WireRecord *r) {
}
static void on_changed(Source *s) {
}
static void on_log(const Source *s, SourceState state, const char *reason) {
}

static const SourceKind kind = {
        .name = "paths",
        .does = "counts",
        .silence = "see why",
        .is_wanted = is_wanted,
        .make_request = make_request,
        .started = on_started,
        .use = on_use,
        .changed = on_changed,
        .log = on_log,
};

typedef struct Bench {
        Host host;
        Source source;
} Bench;

static int setup(void **state) {
        Bench *b = calloc(1, sizeof(Bench));
        sigset_t set;

        assert_non_null(b);
        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGCHLD);
        assert_int_equal(sigprocmask(SIG_BLOCK, &set, NULL), 0);
        assert_true(sd_event_new(&b->host.event) >= 0);
        assert_int_equal(proc_pool_new(b->host.event, "/proc/self/exe", NULL, NULL, &b->host.workers), 0);
        b->source = (Source){ .kind = &kind, .host = &b->host, .tag = "*paths", .userdata = b };
        n_started = 0;
        is_it_wanted = true;
        *state = b;
        return 0;
}

static int teardown(void **state) {
        Bench *b = *state;

        source_done(&b->source);
        (void) proc_pool_free(b->host.workers);
        (void) sd_event_unref(b->host.event);
        free(b);
        return 0;
}

static void run_until_on(Bench *b) {
        while (b->source.state != SOURCE_ON)
                assert_true(sd_event_run(b->host.event, UINT64_MAX) >= 0);
}

/* More than its socket has room for, before it has read any. */
static void test_many_packets(void **state) {
        Bench *b = *state;

        source_update(&b->source);
        assert_non_null(b->source.proc);
        assert_false(proc_is_killed(b->source.proc));
        run_until_on(b);
        assert_int_equal(b->source.n_known, PACKETS);
        assert_int_equal(n_started, 1);
}

/* None is started beside one that may hang, and that is told. */
static void test_restart_while_one_dies(void **state) {
        Bench *b = *state;
        const Proc *first;

        source_update(&b->source);
        first = b->source.proc;
        proc_kill(b->source.proc);
        source_restart(&b->source);
        assert_ptr_equal(b->source.proc, first);
        assert_int_equal(b->source.state, SOURCE_STALLED);
        assert_contains(b->source.reason, "not gone yet");
        is_it_wanted = false;
        source_update(&b->source);
        assert_int_equal(b->source.state, SOURCE_OFF);
        is_it_wanted = true;
        source_update(&b->source);
        assert_int_equal(b->source.state, SOURCE_STALLED);
        assert_int_equal(n_started, 1);
        run_until_on(b);
        assert_int_equal(n_started, 2);
        assert_null(b->source.reason);
}

static int work(void) {
        _cleanup_(wire_request_done) WireRequest q = { 0 };
        WireRecord r = { .kind = WIRE_WATCH, .state = WATCH_IDLE };
        char packet[256] = "";
        ssize_t n;

        if (wire_request_receive(WORKER_FD, &q) <= 0)
                return EXIT_FAILURE;
        while (strcmp(packet, "last") != 0) {
                n = recv(WORKER_FD, packet, sizeof(packet) - 1, 0);
                if (n <= 0)
                        return EXIT_FAILURE;
                packet[n] = '\0';
                r.entries_total++;
        }
        if (wire_send(WORKER_FD, &r) < 0)
                return EXIT_FAILURE;
        return recv(WORKER_FD, packet, sizeof(packet), 0) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_many_packets, setup, teardown),
                cmocka_unit_test_setup_teardown(test_restart_while_one_dies, setup, teardown),
        };

        return argc > 1 ? work() : cmocka_run_group_tests(tests, NULL, NULL);
}
