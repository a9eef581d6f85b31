/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/wire.h"

#include <string.h>
#include <sys/socket.h>

void wire_copy(char *dest, size_t size, const char *s) {
        size_t n = s ? strnlen(s, size - 1) : 0;

        memcpy(dest, s ?: "", n);
        dest[n] = '\0';
}

static int send_packet(int fd, const void *data, size_t size) {
        for (;;) {
                if (send(fd, data, size, MSG_NOSIGNAL) >= 0)
                        return 0;
                if (errno != EINTR)
                        return -errno;
        }
}

/* A packet is a record up to its strings, and these one after the other, each with its NUL. */
#define HEADER_SIZE offsetof(WireRecord, name)

#define STRING(field)                                                                                       \
        { offsetof(WireRecord, field), sizeof(((WireRecord *) 0)->field) }
static const struct {
        size_t offset, size;
} strings[] = { STRING(name), STRING(path), STRING(lower_path), STRING(text) };

int wire_send(int fd, const WireRecord *r) {
        char packet[sizeof(WireRecord)];
        uint32_t size = HEADER_SIZE;

        memcpy(packet, r, HEADER_SIZE);
        for (size_t i = 0; i < ELEMENTSOF(strings); i++) {
                char *end =
                        memccpy(packet + size, (const char *) r + strings[i].offset, '\0', strings[i].size);

                if (!end)
                        return -EBADMSG;
                size = (uint32_t) (end - packet);
        }
        memcpy(packet + offsetof(WireRecord, size), &size, sizeof(size));
        return send_packet(fd, packet, size);
}

/* The strings end where the packet does, and each fits its field. */
static int record_unpack(WireRecord *r, const char *packet, size_t size) {
        size_t used = HEADER_SIZE;

        if (size < HEADER_SIZE)
                return -EBADMSG;
        memcpy(r, packet, HEADER_SIZE);
        for (size_t i = 0; i < ELEMENTSOF(strings); i++) {
                size_t left = size - used, room = strings[i].size;
                char *field = (char *) r + strings[i].offset;
                char *end = memccpy(field, packet + used, '\0', left < room ? left : room);

                if (!end)
                        return -EBADMSG;
                used += (size_t) (end - field);
        }
        return used == size && r->size == size && r->kind < _WIRE_KIND_MAX ? 0 : -EBADMSG;
}

/* Who ends without having read all that it was sent, as one that is killed or was done when it was
 * cancelled, resets the connection: the kernel says so once, before what was sent, which is still there. */
int wire_receive(int fd, WireRecord *ret) {
        char packet[sizeof(WireRecord)];
        ssize_t n;
        int r;

        do
                n = recv(fd, packet, sizeof(packet), MSG_TRUNC); /* the packet's size, not what fits */
        while (n < 0 && (errno == EINTR || errno == ECONNRESET));
        if (n < 0)
                return -errno;
        if (n == 0)
                return 0;
        r = n > (ssize_t) sizeof(packet) ? -EBADMSG : record_unpack(ret, packet, (size_t) n);
        return r < 0 ? r : 1;
}

int wire_result(const WireRecord *r, Failure *reterr) {
        FailureKind kind = failure_kind_from_string(r->name);

        if (kind == FAILURE_NONE)
                return 0;
        return failure_set(
                reterr, kind < 0 ? FAILURE_FAILED : kind, r->error, "%s",
                r->text[0] ? r->text : strerror(r->error));
}

void wire_request_add(WireRequest *q, const char *key, const char *value) {
        size_t n = strlen(key) + 1 + strlen(value) + 1;
        char *b;

        if (q->error == 0 && q->size + n > WIRE_REQUEST_MAX)
                q->error = -E2BIG;
        if (q->error < 0)
                return;
        b = realloc(q->buffer, q->size + n);
        if (!b) {
                q->error = -ENOMEM;
                return;
        }
        q->buffer = b;
        (void) snprintf(b + q->size, n, "%s=%s", key, value);
        q->size += n;
}

void wire_request_add_number(WireRequest *q, const char *key, uint64_t n) {
        char value[32];

        (void) snprintf(value, sizeof(value), "%llu", (unsigned long long) n);
        wire_request_add(q, key, value);
}

void wire_request_add_flag(WireRequest *q, const char *key, bool is_set) {
        if (is_set)
                wire_request_add(q, key, "1");
}

void wire_request_add_optional(WireRequest *q, const char *key, const char *value) {
        if (value)
                wire_request_add(q, key, value);
}

const char *wire_request_get(const WireRequest *q, const char *key) {
        size_t k = strlen(key);

        for (const char *p = q->buffer; p && p < q->buffer + q->size; p += strlen(p) + 1)
                if (strncmp(p, key, k) == 0 && p[k] == '=')
                        return p + k + 1;
        return NULL;
}

int wire_request_send(int fd, const WireRequest *q) {
        return q->error < 0 ? q->error : send_packet(fd, q->buffer, q->size);
}

int wire_request_receive(int fd, WireRequest *ret) {
        _cleanup_free_ char *b = malloc(WIRE_REQUEST_MAX);
        ssize_t n;

        if (!b)
                return -ENOMEM;
        do
                n = recv(fd, b, WIRE_REQUEST_MAX, MSG_TRUNC);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        if (n == 0)
                return 0;
        if (n > WIRE_REQUEST_MAX || b[n - 1] != '\0')
                return -EBADMSG;
        *ret = (WireRequest){ .buffer = TAKE_PTR(b), .size = (size_t) n };
        return 1;
}

void wire_request_done(WireRequest *q) {
        free(q->buffer);
        *q = (WireRequest){ 0 };
}
