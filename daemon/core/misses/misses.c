/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/misses/misses.h"

#include <poll.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/clock.h"
#include "core/misses/misses-internal.h"
#include "core/mount/mount-table.h"
#include "core/mount/overlay-set.h"

#define DRAIN_USEC USEC_PER_SEC
#define ALIVE_USEC (USEC_PER_SEC / 2)
/* Directories of all overlays that are told at a time, those with most lookups at the lower first. Of the
 * others only the sum is. */
#define TELL_MOST 1024

/* An overlay as it is counted at present. */
typedef struct Place {
        char *name;
        char *root; /* of its mount, in the superblock */
        dev_t device;
        uint64_t n_asked, n_saved; /* what no directory is told for */
} Place;

typedef struct Misses {
        const MissesConfig *config;
        MissesKernel *kernel;
        OverlaySet wanted;
        Place *places;
        size_t n_places;
        uint64_t drain_usec, alive_usec; /* monotonic; not before */
        int error;                       /* of who was told that we are alive */
} Misses;

static void on_alive(void *userdata) {
        Misses *m = userdata;
        uint64_t now = now_monotonic_usec();

        if (now < m->alive_usec || m->error < 0)
                return;
        m->alive_usec = now + ALIVE_USEC;
        m->error = m->config->status(/* is_busy= */ true, 0, m->config->userdata);
}

/* Whom a directory belongs to. Two mounts may show it. */

static bool is_place_of(const Place *p, const MissesKey *key) {
        return MISSES_DEVICE(major(p->device), minor(p->device)) == key->device;
}

static int tell_directory(const Misses *m, Place *p, const MissesDirectory *d, bool is_told) {
        char path[MISSES_NAMES] = "";
        int r = misses_path(d, p->root, path);

        if (r == 0)
                return 0;
        if (r > 0 && is_told && path[0] != '\0')
                return m->config->count(p->name, path, d->n_asked, d->n_saved, m->config->userdata);
        p->n_asked += d->n_asked;
        p->n_saved += d->n_saved;
        return 0;
}

static int tell_rest(const Misses *m) {
        int r = 0;

        for (Place *p = m->places; r >= 0 && p < m->places + m->n_places; p++) {
                if (p->n_asked > 0 || p->n_saved > 0)
                        r = m->config->count(p->name, "", p->n_asked, p->n_saved, m->config->userdata);
                p->n_asked = p->n_saved = 0;
        }
        return r;
}

static int tell(const Misses *m, const MissesDrained *d) {
        const MissesDirectory **sorted = calloc(d->n, sizeof(MissesDirectory *));
        int r = 0;

        if (!sorted)
                return -ENOMEM;
        for (size_t i = 0; i < d->n; i++)
                sorted[i] = d->directories + i;
        qsort(sorted, d->n, sizeof(*sorted), misses_compare);
        for (size_t i = 0; r >= 0 && i < d->n; i++) {
                const MissesKey *key = d->keys + (sorted[i] - d->directories);

                for (size_t k = 0; r >= 0 && k < m->n_places; k++)
                        if (is_place_of(m->places + k, key))
                                r = tell_directory(m, m->places + k, sorted[i], i < TELL_MOST);
        }
        free(sorted);
        return r < 0 ? r : tell_rest(m);
}

static int drain(Misses *m) {
        _cleanup_(misses_drained_done) MissesDrained d = { 0 };
        int r = misses_kernel_drain(m->kernel, &d);

        m->drain_usec = now_monotonic_usec() + DRAIN_USEC;
        return r < 0 || d.n == 0 ? r : tell(m, &d);
}

/* Which overlays count. */

static void forget_places(Misses *m) {
        for (size_t i = 0; i < m->n_places; i++) {
                (void) misses_kernel_set(m->kernel, m->places[i].device, /* counts= */ false);
                free(m->places[i].name);
                free(m->places[i].root);
        }
        free(m->places);
        m->places = NULL;
        m->n_places = 0;
}

static const char *find_root(const MountTable *t, const OverlayPlace *o) {
        for (size_t i = t->n; i-- > 0;)
                if (t->items[i].device == o->device && strcmp(t->items[i].target, o->mount_point) == 0)
                        return t->items[i].root;
        return NULL;
}

/* One that is not mounted any more is gone, and we shall be told so. */
static int add_place(Misses *m, const OverlayPlace *o, const MountTable *t) {
        const char *root = find_root(t, o);
        Place *p;

        if (!root)
                return 0;
        if (!ARRAY_GROW(m->places, m->n_places))
                return -ENOMEM;
        p = m->places + m->n_places++;
        *p = (Place){ .name = strdup(o->name), .root = strdup(root), .device = o->device };
        if (!p->name || !p->root)
                return -ENOMEM;
        return misses_kernel_set(m->kernel, o->device, /* counts= */ true);
}

/* What was counted until now is of those that counted until now. */
static int take_wanted(Misses *m) {
        _cleanup_(mount_table_done) MountTable t = { 0 };
        int r = mount_table_read(MOUNTINFO, &t);

        if (r >= 0)
                r = drain(m);
        if (r < 0)
                return r;
        forget_places(m);
        for (size_t i = 0; r >= 0 && i < m->wanted.n; i++)
                r = add_place(m, m->wanted.items + i, &t);
        return r < 0 ? r : m->config->status(/* is_busy= */ false, m->n_places, m->config->userdata);
}

/* The bell is not listened to before the next drain may be. */
static int wait_for_something(Misses *m) {
        uint64_t now = now_monotonic_usec();
        bool is_paused = now < m->drain_usec;
        struct pollfd p[] = {
                { .fd = m->config->control_fd, .events = POLLIN },
                { .fd = misses_kernel_fd(m->kernel), .events = is_paused ? 0 : POLLIN },
        };
        int msec = is_paused ? (int) ((m->drain_usec - now + USEC_PER_MSEC - 1) / USEC_PER_MSEC) : -1, r;

        if (poll(p, ELEMENTSOF(p), msec) < 0)
                return errno == EINTR ? 0 : -errno;
        if (p[0].revents) {
                r = overlay_set_receive(&m->wanted, m->config->control_fd);
                if (r > 0)
                        r = take_wanted(m);
                if (r < 0)
                        return r;
        }
        return p[1].revents & POLLIN ? drain(m) : 0;
}

static void misses_done(Misses *m) {
        if (m->kernel)
                forget_places(m);
        m->kernel = misses_kernel_free(m->kernel);
        overlay_set_done(&m->wanted);
}

int misses_run(const MissesConfig *c, Failure *reterr) {
        _cleanup_(misses_done) Misses m = { .config = c };
        int r = c->status(/* is_busy= */ true, 0, c->userdata);

        if (r >= 0)
                r = misses_kernel_new(on_alive, &m, &m.kernel, reterr);
        if (r >= 0)
                r = m.error;
        if (r >= 0)
                r = c->status(/* is_busy= */ false, 0, c->userdata);
        while (r >= 0)
                r = wait_for_something(&m);
        return r == -ECANCELED ? 0 : failure_set_errno(reterr, r, "cannot count lookups of overlays");
}
