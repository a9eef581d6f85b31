/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which programs are executed, by the process connector of the kernel. It tells after the new program has
 * its memory, so that its environment is there; fanotify (FAN_OPEN_EXEC) tells before. A filter in the
 * kernel lets nothing else wake us: forks, ends and threads are many. The kernel tells in its first network,
 * process and user namespaces only; elsewhere it says nothing, not even no. */
#include <linux/cn_proc.h>
#include <linux/connector.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "core/paths/paths-internal.h"

#define PATIENCE_MSEC 1000
#define ROOM (1 << 20)
#define EVENTS_AT_ONCE 256 /* then others want to be heard */

/* struct cn_msg without what it ends with: that follows it. */
typedef struct Message {
        struct cb_id id;
        uint32_t seq, ack;
        uint16_t length, flags;
} Message;

typedef struct Packet {
        struct nlmsghdr header;
        Message message;
        struct proc_event event;
} __attribute__((packed)) Packet;

static int set_filter(int fd) {
        struct sock_filter code[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(Packet, event)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __builtin_bswap32(PROC_EVENT_EXEC), 1, 0),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PROC_EVENT_NONE, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
                BPF_STMT(BPF_RET | BPF_K, 0),
        };
        struct sock_fprog program = { .len = ELEMENTSOF(code), .filter = code };

        if (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__)
                code[1].k = PROC_EVENT_EXEC;
        return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0 ? -errno : 0;
}

static int send_operation(int fd, enum proc_cn_mcast_op op) {
        struct {
                struct nlmsghdr header;
                Message message;
                enum proc_cn_mcast_op op;
        } __attribute__((packed)) packet = {
                .header = { .nlmsg_len = sizeof(packet), .nlmsg_type = NLMSG_DONE },
                .message = { .id = { CN_IDX_PROC, CN_VAL_PROC }, .length = sizeof(packet.op) },
                .op = op,
        };

        return send(fd, &packet, sizeof(packet), 0) < 0 ? -errno : 0;
}

/* The kernel answers with its error, or with nothing. */
static int wait_for_answer(int fd) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        Packet packet;

        while (poll(&p, 1, PATIENCE_MSEC) > 0) {
                ssize_t n = recv(fd, &packet, sizeof(packet), MSG_DONTWAIT);

                if (n < 0 && errno != EAGAIN && errno != EINTR)
                        return -errno;
                if (n >= (ssize_t) (offsetof(Packet, event.event_data.ack) + sizeof(uint32_t)) &&
                    packet.event.what == PROC_EVENT_NONE)
                        return -(int) packet.event.event_data.ack.err;
        }
        return -EOPNOTSUPP;
}

int paths_open_events(void) {
        _cleanup_close_ int fd =
                socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_CONNECTOR);
        const struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = CN_IDX_PROC };
        int room = ROOM, r;

        if (fd < 0)
                return -errno;
        (void) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
        r = set_filter(fd);
        if (r < 0)
                return r;
        if (bind(fd, (const struct sockaddr *) &address, sizeof(address)) < 0)
                return -errno;
        r = send_operation(fd, PROC_CN_MCAST_LISTEN);
        if (r >= 0)
                r = wait_for_answer(fd);
        return r < 0 ? r : TAKE_FD(fd);
}

int paths_close_events(int fd) {
        if (fd >= 0)
                (void) send_operation(fd, PROC_CN_MCAST_IGNORE);
        return fd_close(fd);
}

int paths_read_events(int fd, paths_pid_func func, void *userdata) {
        struct sockaddr_nl from;
        socklen_t size = sizeof(from);
        Packet packet;
        int r = 0;

        for (unsigned i = 0; r >= 0 && i < EVENTS_AT_ONCE; i++) {
                ssize_t n = recvfrom(
                        fd, &packet, sizeof(packet), MSG_DONTWAIT, (struct sockaddr *) &from, &size);
                bool is_whole = n >=
                        (ssize_t) (offsetof(Packet, event.event_data.exec) +
                                   sizeof(packet.event.event_data.exec));

                if (n < 0)
                        return errno == EAGAIN || errno == EINTR ? 0 : -errno;

                /* Others may send to us: only the kernel has no port. */
                if (is_whole && from.nl_pid == 0 && packet.event.what == PROC_EVENT_EXEC)
                        r = func(packet.event.event_data.exec.process_tgid, userdata);
                size = sizeof(from);
        }
        return r < 0 ? r : 1;
}
