/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/mount/overlay-set.h"

#include <limits.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>

#include "base/path-util.h"

#define PACKET_MAX (PATH_MAX + 128)

static void place_done(OverlayPlace *p) {
        free(p->name);
        free(p->mount_point);
}

static void drop(OverlaySet *s, const char *name) {
        for (size_t i = 0; i < s->n; i++)
                if (strcmp(s->items[i].name, name) == 0) {
                        place_done(s->items + i);
                        s->items[i] = s->items[--s->n];
                        return;
                }
}

static int add(OverlaySet *s, const char *name, dev_t device, const char *mount_point) {
        OverlayPlace p = { strdup(name), strdup(mount_point), device };

        if (!p.name || !p.mount_point || !ARRAY_GROW(s->items, s->n)) {
                place_done(&p);
                return -ENOMEM;
        }
        s->items[s->n++] = p;
        return 1;
}

int overlay_set_take(OverlaySet *s, const char *packet) {
        unsigned major, minor;
        char name[NAME_MAX + 1];
        int n = 0;

        if (sscanf(packet, "overlay %255s %u:%u %n", name, &major, &minor, &n) == 3 && packet[n] == '/') {
                drop(s, name);
                return add(s, name, makedev(major, minor), packet + n);
        }
        if (sscanf(packet, "gone %255s", name) != 1)
                return 0;
        drop(s, name);
        return 1;
}

int overlay_set_receive(OverlaySet *s, int fd) {
        char packet[PACKET_MAX];
        bool has_changed = false;
        ssize_t n;

        while ((n = recv(fd, packet, sizeof(packet) - 1, MSG_DONTWAIT)) > 0) {
                int r;

                packet[n] = '\0';
                if (strcmp(packet, "cancel") == 0)
                        return -ECANCELED;
                r = overlay_set_take(s, packet);
                if (r < 0)
                        return r;
                has_changed |= r > 0;
        }
        return n < 0 && (errno == EAGAIN || errno == EINTR) ? has_changed : -ECANCELED;
}

const OverlayPlace *overlay_set_find(const OverlaySet *s, const char *path, const char **ret_relative) {
        const OverlayPlace *best = NULL;

        for (size_t i = 0; i < s->n; i++) {
                const OverlayPlace *p = s->items + i;
                const char *rest = path_startswith(path, p->mount_point);

                if (rest && (!best || strlen(p->mount_point) > strlen(best->mount_point))) {
                        best = p;
                        *ret_relative = rest;
                }
        }
        return best;
}

void overlay_set_done(OverlaySet *s) {
        for (size_t i = 0; i < s->n; i++)
                place_done(s->items + i);
        free(s->items);
        *s = (OverlaySet){ 0 };
}
