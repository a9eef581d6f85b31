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

#define HEADER_SIZE offsetof(WireRecord, name)

static void assert_record_equal(WireRecord *in, const WireRecord *out) {
        in->size = 0; /* of its packet */
        assert_memory_equal(in, out, HEADER_SIZE);
        assert_string_equal(in->name, out->name);
        assert_string_equal(in->path, out->path);
        assert_string_equal(in->lower_path, out->lower_path);
        assert_string_equal(in->text, out->text);
}

static void test_record(void **state) {
        int *fds = *state;
        WireRecord out, in;

        out = (WireRecord){ .kind = WIRE_DIRECTORY };
        out.state = DIRECTORY_FINALIZED;
        out.entries_total = 42;
        wire_set(out.path, "a/b\nc");
        wire_set(out.text, "why");
        assert_return_code(wire_send(fds[0], &out), 0);
        memset(&in, 'x', sizeof(in)); /* nothing of an earlier record is left in it */
        assert_int_equal(wire_receive(fds[1], &in), 1);
        assert_record_equal(&in, &out);
}

/* The largest record there can be arrives, too. */
static void test_full(void **state) {
        int *fds = *state;
        WireRecord out, in;

        out = (WireRecord){ .kind = WIRE_PROBLEM };
        memset(out.name, 'n', sizeof(out.name) - 1);
        memset(out.path, 'p', sizeof(out.path) - 1);
        memset(out.lower_path, 'l', sizeof(out.lower_path) - 1);
        memset(out.text, 't', sizeof(out.text) - 1);
        assert_return_code(wire_send(fds[0], &out), 0);
        assert_int_equal(wire_receive(fds[1], &in), 1);
        assert_record_equal(&in, &out);
}

/* A record takes the room of what it says, not that of the longest path there may be. */
static void test_size(void **state) {
        const char *scheme = "redirect", *why = "a file is open for writing";
        char packet[sizeof(WireRecord)];
        size_t sent = 0, said = 0;
        int *fds = *state;

        for (unsigned i = 0; i < 1000; i++) {
                WireRecord r;
                ssize_t n;

                r = (WireRecord){ .kind = WIRE_DIRECTORY };
                r.state = DIRECTORY_PENDING;
                wire_set(r.name, scheme);
                (void) snprintf(r.path, sizeof(r.path), "projects/a-project/%u", i);
                (void) snprintf(r.lower_path, sizeof(r.lower_path), "/projects/a-project/%u", i);
                wire_set(r.text, why);
                said += strlen(r.name) + strlen(r.path) + strlen(r.lower_path) + strlen(r.text) + 4;
                assert_return_code(wire_send(fds[0], &r), 0);
                n = recv(fds[1], packet, sizeof(packet), MSG_TRUNC);
                assert_true(n > 0);
                sent += (size_t) n;
        }
        assert_int_equal(sent, 1000 * HEADER_SIZE + said);
        assert_true(sent < 300 * 1000);
}

/* Who ends without having read all has said what he said. */
static void test_ended_without_reading(void **state) {
        int *fds = *state;
        WireRecord out, in;

        out = (WireRecord){ .kind = WIRE_RESULT };
        assert_int_equal(send(fds[1], "cancel", 6, 0), 6);
        assert_return_code(wire_send(fds[0], &out), 0);
        fds[0] = fd_close(fds[0]);
        assert_int_equal(wire_receive(fds[1], &in), 1);
        assert_record_equal(&in, &out);
        assert_int_equal(wire_receive(fds[1], &in), 0);
}

/* A string that is too long is cut, never left without its end. */
static void test_cut(void **state) {
        char longer[PATH_MAX + 100];
        WireRecord r;

        memset(longer, 'x', sizeof(longer) - 1);
        longer[sizeof(longer) - 1] = '\0';
        r = (WireRecord){ .kind = WIRE_NOTE };
        wire_set(r.name, longer);
        wire_set(r.path, longer);
        assert_int_equal(strlen(r.name), sizeof(r.name) - 1);
        assert_int_equal(strlen(r.path), sizeof(r.path) - 1);
        wire_set(r.name, NULL);
        assert_string_equal(r.name, "");
}

static void fill_name(WireRecord *r) {
        memset(r->name, 'x', sizeof(r->name));
}

static void fill_path(WireRecord *r) {
        memset(r->path, 'x', sizeof(r->path));
}

static void fill_lower_path(WireRecord *r) {
        memset(r->lower_path, 'x', sizeof(r->lower_path));
}

static void fill_text(WireRecord *r) {
        memset(r->text, 'x', sizeof(r->text));
}

/* A field without its NUL is not sent. */
static void test_unterminated(void **state) {
        static void (*const rows[])(WireRecord *) = { fill_name, fill_path, fill_lower_path, fill_text };
        int *fds = *state;
        WireRecord r;

        assert_return_code(fcntl(fds[1], F_SETFL, O_NONBLOCK), errno);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                r = (WireRecord){ .kind = WIRE_RESULT };
                rows[i](&r);
                assert_int_equal(wire_send(fds[0], &r), -EBADMSG);
                assert_int_equal(wire_receive(fds[1], &r), -EAGAIN);
        }
}

static size_t packet_add(char *packet, size_t size, const char *string, size_t length) {
        memcpy(packet + size, string, length);
        return size + length;
}

/* A packet by hand: the header with what it says of its size, and these strings, with what NULs they have.
 */
static int receive_by_hand(int *fds, uint32_t kind, int lie, const char *strings, size_t length) {
        static char packet[4 * sizeof(WireRecord)];
        WireRecord r;
        size_t size;

        r = (WireRecord){ .kind = kind };
        r.size = (uint32_t) ((int) (HEADER_SIZE + length) + lie);
        size = packet_add(packet, 0, (const char *) &r, HEADER_SIZE);
        size = packet_add(packet, size, strings, length);
        assert_int_equal(send(fds[0], packet, size, 0), size);
        return wire_receive(fds[1], &r);
}

#define FOUR "name\0path\0lower\0text" /* and the NUL of the literal */

static void test_corrupt(void **state) {
        int *fds = *state;

        assert_int_equal(receive_by_hand(fds, WIRE_NOTE, 0, FOUR, sizeof(FOUR)), 1);
        assert_int_equal(receive_by_hand(fds, WIRE_NOTE, 0, "\0\0\0", 4), 1);
        assert_int_equal(receive_by_hand(fds, WIRE_NOTE, -1, FOUR, sizeof(FOUR)), -EBADMSG);
        assert_int_equal(receive_by_hand(fds, WIRE_NOTE, 1, FOUR, sizeof(FOUR)), -EBADMSG);
        assert_int_equal(receive_by_hand(fds, _WIRE_KIND_MAX, 0, FOUR, sizeof(FOUR)), -EBADMSG);
        assert_int_equal(receive_by_hand(fds, WIRE_NOTE, 0, FOUR "\0more", sizeof(FOUR "\0more")), -EBADMSG);
        assert_int_equal(receive_by_hand(fds, WIRE_NOTE, 0, FOUR "\0", sizeof(FOUR "\0")), -EBADMSG);
}

/* Wherever a packet is cut, also where what is left says how long it is. */
static void test_cut_packet(void **state) {
        static char packet[sizeof(WireRecord)];
        int *fds = *state;
        WireRecord r;

        for (size_t length = 0; length < sizeof(FOUR); length++)
                assert_int_equal(receive_by_hand(fds, WIRE_NOTE, 0, FOUR, length), -EBADMSG);
        r = (WireRecord){ .kind = WIRE_NOTE };
        for (uint32_t size = 1; size < HEADER_SIZE; size++) {
                r.size = size;
                memcpy(packet, &r, size);
                assert_int_equal(send(fds[0], packet, size, 0), size);
                assert_int_equal(wire_receive(fds[1], &r), -EBADMSG);
        }
}

/* A string that is longer than its field, and a packet that is longer than any record. */
static void test_long_packet(void **state) {
        static const size_t rooms[] = { sizeof(((WireRecord *) 0)->name), sizeof(((WireRecord *) 0)->path),
                                        sizeof(((WireRecord *) 0)->lower_path),
                                        sizeof(((WireRecord *) 0)->text) };
        static char strings[2 * sizeof(WireRecord)];
        int *fds = *state;

        for (size_t i = 0; i < ELEMENTSOF(rooms); i++)
                for (unsigned excess = 0; excess < 2; excess++) {
                        size_t length = i + rooms[i] - 1 + excess, size = length + ELEMENTSOF(rooms) - i;

                        memset(strings, '\0', sizeof(strings));
                        memset(strings + i, 'x', length - i);
                        assert_int_equal(
                                receive_by_hand(fds, WIRE_NOTE, 0, strings, size),
                                excess == 0 ? 1 : -EBADMSG);
                }
        assert_int_equal(receive_by_hand(fds, WIRE_NOTE, 0, strings, sizeof(strings)), -EBADMSG);
}

static void test_ends(void **state) {
        int *fds = *state;
        WireRecord r;

        assert_return_code(fcntl(fds[1], F_SETFL, O_NONBLOCK), errno);
        assert_int_equal(wire_receive(fds[1], &r), -EAGAIN);
        fds[0] = fd_close(fds[0]);
        assert_int_equal(wire_receive(fds[1], &r), 0);
        r = (WireRecord){ .kind = WIRE_RESULT };
        assert_int_equal(wire_send(fds[1], &r), -EPIPE);
}

static void test_request(void **state) {
        WireRequest out = { 0 }, in = { 0 };
        int *fds = *state;

        wire_request_add(&out, WIRE_VERB, "finalize");
        wire_request_add(&out, WIRE_PATH, "a=b\nPATH2=c");
        wire_request_add(&out, WIRE_OVERLAY, "");
        wire_request_add_number(&out, WIRE_WORKERS, 32);
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
        wire_request_add(&q, "K", value);
        assert_int_equal(q.error, -E2BIG);
        assert_int_equal(q.size, 0);
        wire_request_done(&q);
        value[WIRE_REQUEST_MAX - 3] = '\0'; /* "K=", the value and its NUL fill it to the last byte */
        wire_request_add(&q, "K", value);
        assert_return_code(wire_request_send(fds[0], &q), 0);
        wire_request_add(&q, "", "");
        assert_int_equal(q.error, -E2BIG);
        assert_int_equal(wire_request_send(fds[0], &q), -E2BIG);
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
                pair_test(test_record),         pair_test(test_full),
                pair_test(test_size),           pair_test(test_cut),
                pair_test(test_unterminated),   pair_test(test_corrupt),
                pair_test(test_cut_packet),     pair_test(test_long_packet),
                pair_test(test_ends),           pair_test(test_request),
                pair_test(test_request_limits), pair_test(test_ended_without_reading),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
