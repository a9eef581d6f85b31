/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Unix sockets that are bound to a name on the overlay, by network namespace. The kernel tells the very
 * inode when asked by netlink (unix_diag). Where it may not be asked, the names serve that bind() was given,
 * which may have been relative, or have led through symlinks. */
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/path-util.h"
#include "core/users/blockers-internal.h"

#define STATE_CONNECTED 3   /* in /proc/net/unix: SS_CONNECTED */
#define STATE_ESTABLISHED 1 /* in unix_diag: TCP_ESTABLISHED */

void sockets_done(BoundSockets *s) {
        for (size_t i = 0; i < s->n; i++)
                free(s->items[i].path);
        free(s->items);
        path_list_done(&s->namespaces);
        *s = (BoundSockets){ 0 };
}

BoundSocket *sockets_find(const BoundSockets *s, ino_t inode) {
        for (size_t i = 0; i < s->n; i++)
                if (s->items[i].inode == inode)
                        return s->items + i;
        return NULL;
}

/* What accept() returned has the name of its listener, but nobody will ever look for it there. */
static bool is_accepted(int type, bool is_connected) {
        return is_connected && (type == SOCK_STREAM || type == SOCK_SEQPACKET);
}

static int sockets_add(BoundSockets *s, ino_t inode, const char *path, bool is_on_overlay) {
        if (!ARRAY_GROW(s->items, s->n))
                return -ENOMEM;
        s->items[s->n] =
                (BoundSocket){ .inode = inode, .path = strdup(path), .is_on_overlay = is_on_overlay };
        if (!s->items[s->n].path)
                return -ENOMEM;
        s->n++;
        return 0;
}

/* "0000: 00000002 00000000 00010000 0001 01 8117506 /run/x". Source: unix_seq_show() */
static int visit_line(const char *line, void *userdata) {
        unsigned type, state;
        unsigned long inode;
        int n = 0;

        if (sscanf(line, "%*[^:]: %*x %*x %*x %x %x %lu %n", &type, &state, &inode, &n) < 3 || n == 0)
                return 0;
        if (line[n] == '\0' || line[n] == '@' || inode == 0)
                return 0;
        if (is_accepted((int) type, state == STATE_CONNECTED))
                return 0;
        return sockets_add(userdata, inode, line + n, /* is_on_overlay= */ false);
}

/* Netlink. */

typedef struct Opening {
        int namespace_fd;
        int fd;
} Opening;

/* A network namespace is a thread's: this one is left behind in it. */
static void *open_there(void *userdata) {
        Opening *o = userdata;

        if (setns(o->namespace_fd, CLONE_NEWNET) >= 0)
                o->fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
        if (o->fd < 0)
                o->fd = -errno;
        return NULL;
}

static int open_diag(int process_fd) {
        _cleanup_close_ int fd = openat(process_fd, "ns/net", O_RDONLY | O_CLOEXEC);
        Opening o = { .namespace_fd = fd, .fd = -EBADF };
        pthread_t thread;
        int r;

        if (fd < 0)
                return -errno;
        r = pthread_create(&thread, NULL, open_there, &o);
        if (r != 0)
                return -r;
        (void) pthread_join(thread, NULL);
        return o.fd;
}

static int send_request(int fd) {
        const struct {
                struct nlmsghdr header;
                struct unix_diag_req request;
        } m = {
                .header = {
                        .nlmsg_len = sizeof(m),
                        .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                        .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
                },
                .request = {
                        .sdiag_family = AF_UNIX,
                        .udiag_states = UINT32_MAX,
                        .udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_VFS,
                },
        };

        return send(fd, &m, sizeof(m), 0) < 0 ? -errno : 0;
}

static int visit_diag(BoundSockets *s, const struct nlmsghdr *h, unsigned device) {
        const struct unix_diag_msg *m = NLMSG_DATA(h);
        const struct unix_diag_vfs *vfs = NULL;
        char name[sizeof(((struct sockaddr_un *) NULL)->sun_path) + 1] = "";
        int n = (int) (h->nlmsg_len - NLMSG_LENGTH(sizeof(*m)));

        for (const struct rtattr *a = (const struct rtattr *) (m + 1); RTA_OK(a, n); a = RTA_NEXT(a, n))
                if (a->rta_type == UNIX_DIAG_VFS && RTA_PAYLOAD(a) >= sizeof(*vfs))
                        vfs = RTA_DATA(a);
                else if (a->rta_type == UNIX_DIAG_NAME && RTA_PAYLOAD(a) < sizeof(name))
                        memcpy(name, RTA_DATA(a), RTA_PAYLOAD(a));
        if (!vfs || vfs->udiag_vfs_dev != device ||
            is_accepted(m->udiag_type, m->udiag_state == STATE_ESTABLISHED))
                return 0;
        return sockets_add(s, m->udiag_ino, name, /* is_on_overlay= */ true);
}

/* 1: that was the last one. */
static int read_answer(BoundSockets *s, int fd, unsigned device) {
        _Alignas(struct nlmsghdr) char buffer[32 * 1024]; /* what the kernel puts into one at most */
        ssize_t n = recv(fd, buffer, sizeof(buffer), 0);

        if (n < 0)
                return errno == EINTR ? 0 : -errno;
        for (const struct nlmsghdr *h = (const struct nlmsghdr *) buffer; NLMSG_OK(h, (size_t) n);
             h = NLMSG_NEXT(h, n)) {
                int r;

                if (h->nlmsg_type == NLMSG_DONE)
                        return 1;
                if (h->nlmsg_type == NLMSG_ERROR)
                        return ((const struct nlmsgerr *) NLMSG_DATA(h))->error ?: -EIO;
                r = visit_diag(s, h, device);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int ask_kernel(BoundSockets *s, int process_fd, unsigned device) {
        _cleanup_close_ int fd = open_diag(process_fd);
        int r = fd < 0 ? fd : send_request(fd);

        while (r == 0)
                r = read_answer(s, fd, device);
        return r < 0 ? r : 0;
}

static bool is_known(const BoundSockets *s, const char *namespace) {
        for (size_t i = 0; i < s->namespaces.n; i++)
                if (strcmp(s->namespaces.items[i], namespace) == 0)
                        return true;
        return false;
}

int sockets_load(BoundSockets *s, int process_fd, unsigned device) {
        char namespace[PATH_MAX];
        int r;

        if (!proc_read_link(process_fd, "ns/net", namespace) || is_known(s, namespace))
                return 0;
        r = ask_kernel(s, process_fd, device);
        if (r < 0 && r != -ENOMEM)
                r = proc_lines_foreach(process_fd, "net/unix", visit_line, s);
        if (r == -ENOMEM)
                return r;
        return r < 0 ? 0 : path_list_add(&s->namespaces, namespace);
}

int search_sockets(Search *s) {
        search_begin(s, 0);
        for (size_t i = 0; i < s->sockets.n; i++) {
                const BoundSocket *b = s->sockets.items + i;
                int r;

                if (!b->is_on_overlay || b->is_seen || b->inode == 0)
                        continue;
                r = search_add(s, BLOCKER_SOCKET, true, /* path= */ NULL, b->inode);
                if (r < 0)
                        return r;
        }
        return 0;
}
