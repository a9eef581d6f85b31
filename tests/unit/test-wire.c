/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/wire.h"

static int pair_setup(void **state) {
        static int fds[2];

        *state = fds;
        return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds);
}

static int pair_teardown(void **state) {
        int *fds = *state;

        (void) fd_close(fds[0]);
        (void) fd_close(fds[1]);
        return 0;
}

static void test_record(void **state) {
        int *fds = *state;
        WireRecord out, in;

        wire_record_init(&out, WIRE_DIRECTORY);
        out.state = DIRECTORY_FINALIZED;
        out.entries_total = 42;
        wire_set(out.path, "a/b\nc");
        wire_set(out.text, "why");
        assert_return_code(wire_send(fds[0], &out), 0);
        assert_int_equal(wire_receive(fds[1], &in), 1);
        assert_memory_equal(&in, &out, sizeof(in));
}

/* Who ends without having read all has said what he said. */
static void test_ended_without_reading(void **state) {
        int *fds = *state;
        WireRecord out, in;

        wire_record_init(&out, WIRE_RESULT);
        assert_int_equal(send(fds[1], "cancel", 6, 0), 6);
        assert_return_code(wire_send(fds[0], &out), 0);
        fds[0] = fd_close(fds[0]);
        assert_int_equal(wire_receive(fds[1], &in), 1);
        assert_memory_equal(&in, &out, sizeof(in));
        assert_int_equal(wire_receive(fds[1], &in), 0);
}

/* A string that is too long is cut, never left without its end. */
static void test_cut(void **state) {
        char longer[PATH_MAX + 100];
        WireRecord r;

        memset(longer, 'x', sizeof(longer) - 1);
        longer[sizeof(longer) - 1] = '\0';
        wire_record_init(&r, WIRE_NOTE);
        wire_set(r.name, longer);
        wire_set(r.path, longer);
        assert_int_equal(strlen(r.name), sizeof(r.name) - 1);
        assert_int_equal(strlen(r.path), sizeof(r.path) - 1);
        wire_set(r.name, NULL);
        assert_string_equal(r.name, "");
}

static void corrupt_size(WireRecord *r) {
        r->size--;
}

static void corrupt_kind(WireRecord *r) {
        r->kind = _WIRE_KIND_MAX;
}

static void corrupt_name(WireRecord *r) {
        memset(r->name, 'x', sizeof(r->name));
}

static void corrupt_path(WireRecord *r) {
        memset(r->path, 'x', sizeof(r->path));
}

static void corrupt_lower_path(WireRecord *r) {
        memset(r->lower_path, 'x', sizeof(r->lower_path));
}

static void corrupt_text(WireRecord *r) {
        memset(r->text, 'x', sizeof(r->text));
}

static void test_corrupt(void **state) {
        static void (*const rows[])(WireRecord *) = { corrupt_size, corrupt_kind,       corrupt_name,
                                                      corrupt_path, corrupt_lower_path, corrupt_text };
        int *fds = *state;
        WireRecord r, in;

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                wire_record_init(&r, WIRE_RESULT);
                rows[i](&r);
                assert_return_code(wire_send(fds[0], &r), 0);
                assert_int_equal(wire_receive(fds[1], &in), -EBADMSG);
        }
}

static void test_short_and_long(void **state) {
        static char packet[2 * sizeof(WireRecord)];
        int *fds = *state;
        WireRecord in, r;

        wire_record_init(&r, WIRE_RESULT);
        memcpy(packet, &r, sizeof(r));
        assert_int_equal(send(fds[0], packet, sizeof(r) - 1, 0), sizeof(r) - 1);
        assert_int_equal(wire_receive(fds[1], &in), -EBADMSG);
        assert_int_equal(send(fds[0], "x", 1, 0), 1);
        assert_int_equal(wire_receive(fds[1], &in), -EBADMSG);
        assert_int_equal(send(fds[0], packet, sizeof(packet), 0), sizeof(packet));
        assert_int_equal(wire_receive(fds[1], &in), -EBADMSG);
}

static void test_ends(void **state) {
        int *fds = *state;
        WireRecord r;

        assert_return_code(fcntl(fds[1], F_SETFL, O_NONBLOCK), errno);
        assert_int_equal(wire_receive(fds[1], &r), -EAGAIN);
        fds[0] = fd_close(fds[0]);
        assert_int_equal(wire_receive(fds[1], &r), 0);
        wire_record_init(&r, WIRE_RESULT);
        assert_int_equal(wire_send(fds[1], &r), -EPIPE);
}

static void test_request(void **state) {
        WireRequest out = { 0 }, in = { 0 };
        int *fds = *state;

        assert_return_code(wire_request_add(&out, WIRE_VERB, "finalize"), 0);
        assert_return_code(wire_request_add(&out, WIRE_PATH, "a=b\nPATH2=c"), 0);
        assert_return_code(wire_request_add(&out, WIRE_OVERLAY, ""), 0);
        assert_return_code(wire_request_addf(&out, WIRE_WORKERS, "%d", 32), 0);
        assert_return_code(wire_request_send(fds[0], &out), 0);
        assert_int_equal(wire_request_receive(fds[1], &in), 1);
        assert_string_equal(wire_request_get(&in, WIRE_VERB), "finalize");
        assert_string_equal(wire_request_get(&in, WIRE_PATH), "a=b\nPATH2=c");
        assert_string_equal(wire_request_get(&in, WIRE_OVERLAY), "");
        assert_string_equal(wire_request_get(&in, WIRE_WORKERS), "32");
        assert_null(wire_request_get(&in, "PAT"));
        assert_null(wire_request_get(&in, "PATH2"));
        assert_null(wire_request_get(&in, WIRE_FORCE));
        wire_request_done(&out);
        wire_request_done(&in);
        assert_null(wire_request_get(&in, WIRE_VERB));
}

static void test_request_limits(void **state) {
        static char value[WIRE_REQUEST_MAX];
        WireRequest q = { 0 }, in;
        int *fds = *state;

        memset(value, 'x', sizeof(value) - 1);
        assert_int_equal(wire_request_add(&q, "K", value), -E2BIG);
        assert_int_equal(q.size, 0);
        value[WIRE_REQUEST_MAX - 3] = '\0'; /* "K=", the value and its NUL fill it to the last byte */
        assert_return_code(wire_request_add(&q, "K", value), 0);
        assert_int_equal(wire_request_add(&q, "", ""), -E2BIG);
        assert_return_code(wire_request_send(fds[0], &q), 0);
        assert_int_equal(wire_request_receive(fds[1], &in), 1);
        assert_string_equal(wire_request_get(&in, "K"), value);
        wire_request_done(&q);
        wire_request_done(&in);
        assert_int_equal(send(fds[0], "VERB=x", 6, 0), 6); /* no NUL at the end */
        assert_int_equal(wire_request_receive(fds[1], &in), -EBADMSG);
        fds[0] = fd_close(fds[0]);
        assert_int_equal(wire_request_receive(fds[1], &in), 0);
}

#define pair_test(f) cmocka_unit_test_setup_teardown(f, pair_setup, pair_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                pair_test(test_record),         pair_test(test_cut),
                pair_test(test_corrupt),        pair_test(test_short_and_long),
                pair_test(test_ends),           pair_test(test_request),
                pair_test(test_request_limits), pair_test(test_ended_without_reading),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
