/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Unix sockets that are bound to a name in a file system, by network namespace. */
#include <string.h>

#include "base/path-util.h"
#include "core/blockers-internal.h"

/* Source: unix_seq_show() */
#define TYPE_STREAM 1
#define TYPE_SEQPACKET 5
#define STATE_CONNECTED 3

void sockets_done(BoundSockets *s) {
        for (size_t i = 0; i < s->n; i++)
                free(s->items[i].path);
        free(s->items);
        path_list_free(s->namespaces, s->n_namespaces);
        *s = (BoundSockets){ 0 };
}

const char *sockets_find(const BoundSockets *s, ino_t inode) {
        for (size_t i = 0; i < s->n; i++)
                if (s->items[i].inode == inode)
                        return s->items[i].path;
        return NULL;
}

static int sockets_add(BoundSockets *s, ino_t inode, const char *path) {
        BoundSocket *items = reallocarray(s->items, s->n + 1, sizeof(*items));

        if (!items)
                return -ENOMEM;
        s->items = items;
        items[s->n] = (BoundSocket){ .inode = inode, .path = strdup(path) };
        if (!items[s->n].path)
                return -ENOMEM;
        s->n++;
        return 0;
}

/* "0000: 00000002 00000000 00010000 0001 01 8117506 /run/x". What accept() returned has the name of its
 * listener, but nobody will ever look for it there. */
static int visit_line(const char *line, void *userdata) {
        unsigned type, state;
        unsigned long inode;
        int n = 0;

        if (sscanf(line, "%*[^:]: %*x %*x %*x %x %x %lu %n", &type, &state, &inode, &n) < 3 || n == 0)
                return 0;
        if (line[n] == '\0' || line[n] == '@' || inode == 0)
                return 0;
        if ((type == TYPE_STREAM || type == TYPE_SEQPACKET) && state == STATE_CONNECTED)
                return 0;
        return sockets_add(userdata, inode, line + n);
}

static bool is_known(const BoundSockets *s, const char *namespace) {
        for (size_t i = 0; i < s->n_namespaces; i++)
                if (strcmp(s->namespaces[i], namespace) == 0)
                        return true;
        return false;
}

int sockets_load(BoundSockets *s, int process_fd) {
        char namespace[PATH_MAX];
        int r;

        if (!proc_read_link(process_fd, "ns/net", namespace) || is_known(s, namespace))
                return 0;
        r = proc_lines_foreach(process_fd, "net/unix", visit_line, s);
        if (r == -ENOMEM)
                return r;
        return r < 0 ? 0 : path_list_add(&s->namespaces, &s->n_namespaces, namespace);
}
