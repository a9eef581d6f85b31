/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Packets of any bytes, in both directions: refused, or a record (a request) that is sent and received as
 * the same. Input: how, then the packet; with "how" 1 a request, with 2 a record whose size and kind are
 * made to fit. */
#include <string.h>
#include <sys/socket.h>

#include "base/wire.h"
#include "fuzz.h"
#include "worker/worker.h"

static int ends[2] = { -1, -1 };

static void check_strings(const WireRecord *r) {
        HOLDS(memchr(r->name, 0, sizeof(r->name)) && memchr(r->path, 0, sizeof(r->path)) &&
              memchr(r->lower_path, 0, sizeof(r->lower_path)) && memchr(r->text, 0, sizeof(r->text)));
}

static void check_record(const char *packet, size_t size) {
        static WireRecord r, again;
        int k;

        if (size == 0 || send(ends[0], packet, size, MSG_NOSIGNAL) < 0)
                return;
        k = wire_receive(ends[1], &r);
        HOLDS(k == 1 || k == -EBADMSG);
        if (k < 0)
                return;
        HOLDS(r.kind < _WIRE_KIND_MAX && r.size == size);
        check_strings(&r);
        HOLDS(wire_send(ends[0], &r) == 0 && wire_receive(ends[1], &again) == 1);
        HOLDS(memcmp(&r, &again, offsetof(WireRecord, name)) == 0);
        HOLDS(strcmp(r.name, again.name) == 0 && strcmp(r.path, again.path) == 0 &&
              strcmp(r.lower_path, again.lower_path) == 0 && strcmp(r.text, again.text) == 0);
}

static void check_split(const Worker *w, const char *key) {
        _cleanup_free_ char *buffer = NULL, **l = worker_split(w, key, &buffer);

        HOLDS(l && buffer);
        for (char **s = l; *s; s++)
                HOLDS(**s && !strchr(*s, ' '));
}

static void check_request(const char *packet, size_t size) {
        static const char *const keys[] = { WIRE_VERB, WIRE_PATH, WIRE_OLD_TREES, WIRE_DIRECTORIES,
                                            WIRE_SET };
        Worker w = { 0 };
        WireRequest again = { 0 };
        int k;

        if (size == 0 || send(ends[0], packet, size, MSG_NOSIGNAL) < 0)
                return;
        k = wire_request_receive(ends[1], &w.request);
        HOLDS(k == 1 || k == -EBADMSG);
        HOLDS((k == 1) == (size <= WIRE_REQUEST_MAX && packet[size - 1] == '\0'));
        if (k < 0)
                return;
        for (size_t i = 0; i < ELEMENTSOF(keys); i++) {
                const char *value = wire_request_get(&w.request, keys[i]);

                check_split(&w, keys[i]);
                HOLDS(!worker_asks_for(&w, keys[i]) || strcmp(value, "1") == 0);
                wire_request_add_optional(&again, keys[i], value);
        }
        for (size_t i = 0; again.error == 0 && i < ELEMENTSOF(keys); i++) {
                const char *a = wire_request_get(&w.request, keys[i]),
                           *b = wire_request_get(&again, keys[i]);

                HOLDS(a ? b && strcmp(a, b) == 0 : !b);
        }
        wire_request_done(&w.request);
        wire_request_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        Input in = input_begin(data, size);
        uint8_t how = input_byte(&in);
        _cleanup_free_ char *packet = NULL;
        size_t n;

        if (ends[0] < 0)
                HOLDS(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
        packet = input_rest(&in, &n);
        if (how & 1) {
                check_request(packet, n);
                return 0;
        }
        if (how & 2 && n >= 8) {
                uint32_t size_and_kind[2] = { (uint32_t) n, (uint32_t) (how >> 2) % _WIRE_KIND_MAX };

                memcpy(packet, size_and_kind, sizeof(size_and_kind));
        }
        check_record(packet, n);
        return 0;
}
