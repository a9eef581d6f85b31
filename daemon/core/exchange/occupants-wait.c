/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who stands in a directory that is to be exchanged, and what that means, by Standing=: as a rule those are
 * waited for who could change names there, since they would change them in the old tree alone
 * (docs/overlayfs.md 5.6), and for all others the old tree is kept. Nobody is made to leave. Somebody who
 * stands in the tree may go anywhere in it, so every directory of it counts. */
#include <poll.h>

#include "base/clock.h"
#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/exchange/exchange-internal.h"
#include "core/upper/names.h"
#include "core/users/occupants.h"
#include "core/users/writers.h"

/* Who only lists a directory has left it in a moment. Who is there longer is looked for less often. */
#define LOOK_AGAIN_FIRST_MSEC 5
#define LOOK_AGAIN_MSEC 500
/* Who is there for less is not spoken of, and puts nothing off. */
#define PASSING_USEC (300 * USEC_PER_MSEC)
/* A build in the directory is another process every time. */
#define TELL_AGAIN_USEC (10 * USEC_PER_SEC)
#define TEXT_SIZE 512

typedef struct Gathering {
        const Exchange *x;
        Writers *writers;
} Gathering;

/* One that is gone by now is nobody's to write. */
static int gather(Node *n, void *userdata) {
        Gathering *g = userdata;
        _cleanup_close_ int fd = node_open(n, g->x->old.fd);

        if (errno_is_gone(fd))
                return 0;
        return fd < 0 ? fd : writers_add(g->writers, fd);
}

/* Who can make or remove names in the old tree. */
static int find_writers_in_old(const Exchange *x, Writers **ret) {
        _cleanup_(writers_freep) Writers *w = NULL;
        Gathering g = { .x = x };
        int r = writers_new(&w);

        if (r < 0)
                return r;
        g.writers = w;
        r = tree_foreach(x->tree, gather, &g);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(w);
        return 0;
}

static int find_writers(const Context *context, const char *path, const Exchange *x, Writers **ret) {
        _cleanup_(writers_freep) Writers *w = NULL;
        _cleanup_close_ int fd = -EBADF;
        int r;

        if (x)
                return find_writers_in_old(x, ret);
        r = writers_new(&w);
        if (r < 0)
                return r;
        fd = open_dir_beneath(context->root_fd, path);
        r = fd < 0 ? (errno_is_gone(fd) ? 0 : fd) : writers_add(w, fd);
        if (r >= 0)
                *ret = TAKE_PTR(w);
        return r;
}

/* The processes to wait for. Without x nothing is known of the directories below yet. */
static int look(const Context *context, const char *path, const Exchange *x, Occupants *ret) {
        _cleanup_(writers_freep) Writers *w = NULL;
        StandingPolicy policy = context->options.standing;
        int r = occupants_find_in(context->overlay, path, NULL, ret);

        if (r < 0 || ret->n == 0 || policy == STANDING_WAIT)
                return r;
        if (policy == STANDING_KEEP)
                return occupants_find_locks(context->overlay, path, ret);
        r = find_writers(context, path, x, &w);
        return r < 0 ? r : occupants_find_in(context->overlay, path, w, ret);
}

static const char *describe(const Context *context, const Occupants *s, char buffer[static TEXT_SIZE]) {
        bool is_one = s->n == 1, is_auto = context->options.standing == STANDING_AUTO;
        const char *lock = is_one ? "holds a lock" : "hold locks", *stand = is_one ? "stands" : "stand";

        (void) snprintf(
                buffer, TEXT_SIZE, "%u process%s %s%s there%s: %s", s->n, is_one ? "" : "es",
                s->n_locks < s->n ? stand : lock,
                s->n_locks > 0 && s->n_locks < s->n ? " or hold locks" : "",
                is_auto && s->n_locks < s->n ? " and could change names" : "", s->who);
        return buffer;
}

typedef struct Conflict {
        const Context *context;
        const char *path;
        Occupants *found;
} Conflict;

/* An old tree that somebody stands in, of a directory at or above the path. One that is kept beside a
 * directory below is met there, when that is scanned. */
static int find_old_tree(const char *id, void *userdata) {
        char name[sizeof(OLD_TREE_PREFIX) + STAGING_ID_LENGTH];
        _cleanup_(tree_freep) Tree *t = NULL;
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ char *path = NULL;
        Conflict *c = userdata;
        int r;

        if (staging_read_snapshot_of(c->context, id, &t) < 0 || !t->root->new_handle)
                return 0; /* it replays nothing */
        fd = file_handle_open(c->context->upper_fd, t->root->new_handle, &path);
        if (fd < 0 || !path_startswith(c->path, path))
                return 0;
        (void) snprintf(name, sizeof(name), OLD_TREE_PREFIX "%s", id);
        r = occupants_find(name, NULL, c->found);
        if (r >= 0 && c->found->n == 0)
                r = occupants_find(id, NULL, c->found);
        return r < 0 ? r : c->found->n > 0 ? -EEXIST : 0;
}

/* Old trees in a row would be replayed one in the other. 1: there is one, ret says who stands there. */
static int look_for_old_tree(const Context *context, const char *path, Occupants *ret, Failure *reterr) {
        Conflict c = { .context = context, .path = path, .found = ret };
        int r;

        *ret = (Occupants){ 0 };
        r = staging_foreach(context, find_old_tree, &c, reterr);
        return r == -EEXIST ? 1 : r;
}

static int cancel(const Context *context, const char *path, Failure *reterr) {
        return failure_set(
                reterr, FAILURE_CANCELED, ECANCELED,
                "canceled while it waited for those who stand in '%s/%s'", context->overlay->mount_point,
                path);
}

static int wait_for_old_tree(Context *context, const char *path, Failure *reterr) {
        for (;;) {
                char text[TEXT_SIZE];
                Occupants s;
                int r = look_for_old_tree(context, path, &s, reterr);

                if (r <= 0)
                        return r;
                (void) snprintf(
                        text, sizeof(text),
                        "an old tree of it is kept for %u processes that stand in it: %s", s.n, s.who);
                if (context->options.is_unasked || context->options.standing == STANDING_KEEP)
                        return failure_set(
                                reterr, FAILURE_BUSY,
                                context->options.is_unasked ? FAILURE_ERROR_HELD : EBUSY,
                                "'%s/%s' cannot be exchanged: %s; try again when they have left",
                                context->overlay->mount_point, path, text);
                if (context_is_canceled(context))
                        return cancel(context, path, reterr);
                context_wait(context, 0, 0, text);
                (void) poll(NULL, 0, LOOK_AGAIN_MSEC);
        }
}

static int put_off(const Context *context, const char *path, const Occupants *s, Failure *reterr) {
        char text[TEXT_SIZE];

        return failure_set(
                reterr, FAILURE_BUSY, FAILURE_ERROR_HELD, "'%s/%s' is put off until they have left it: %s",
                context->overlay->mount_point, path, describe(context, s, text));
}

typedef struct Waiting {
        uint64_t start_usec, told_usec;
        int pause_msec;
        char text[TEXT_SIZE];
} Waiting;

static void tell(const Context *context, const Exchange *x, const Occupants *s, Waiting *w) {
        uint64_t now = now_monotonic_usec();

        if (w->told_usec == 0 || now - w->told_usec > TELL_AGAIN_USEC) {
                (void) describe(context, s, w->text);
                w->told_usec = now;
        }
        context_wait(
                context, x ? atomic_load(&x->batch.n_done) : 0, x ? atomic_load(&x->batch.n_total) : 0,
                w->text);
}

/* The new tree follows what changes meanwhile. */
static int pause_looking(Exchange *x, int msec) {
        uint64_t now, deadline = now_monotonic_usec() + (uint64_t) msec * USEC_PER_MSEC;
        int r;

        if (!x) {
                (void) poll(NULL, 0, msec);
                return 0;
        }
        while ((now = now_monotonic_usec()) < deadline) {
                (void) watch_wait(x, 1 + (int) ((deadline - now) / USEC_PER_MSEC));
                r = settle_once(x);
                if (r < 0)
                        return r;
        }
        return 0;
}

int exchange_wait_for_occupants(Context *context, const char *path, Exchange *x, Failure *reterr) {
        Waiting w = { .start_usec = now_monotonic_usec(), .pause_msec = LOOK_AGAIN_FIRST_MSEC };
        int r = x ? 0 : wait_for_old_tree(context, path, reterr);

        while (r >= 0) {
                Occupants s;

                r = look(context, path, x, &s);
                if (r < 0)
                        return failure_set_errno(
                                reterr, r, "cannot find out who stands in '%s/%s'",
                                context->overlay->mount_point, path);
                if (x)
                        x->has_occupants = s.n_all > 0;
                if (s.n == 0)
                        return 0;
                if (context_is_canceled(context))
                        return cancel(context, path, reterr);
                if (now_monotonic_usec() - w.start_usec >= PASSING_USEC) {
                        if (context->options.is_unasked)
                                return put_off(context, path, &s, reterr);
                        tell(context, x, &s, &w);
                }
                r = pause_looking(x, w.pause_msec);
                w.pause_msec = (int) pause_next((uint64_t) w.pause_msec, LOOK_AGAIN_MSEC);
        }
        return r;
}

const char *standing_describe(StandingPolicy policy) {
        static const char *const texts[_STANDING_MAX] = {
                [STANDING_AUTO] =
                        "wait for those who stand there and could change names, keep the old tree of others",
                [STANDING_KEEP] = "keep the old tree for those who stand there",
                [STANDING_WAIT] = "wait for those who stand there",
        };

        return texts[policy];
}

int exchange_check_occupants(Exchange *x) {
        Occupants s;
        int r = look(x->context, x->tree->path, x, &s);

        if (r < 0)
                return r;
        x->has_occupants = s.n_all > 0;
        return s.n > 0;
}

int exchange_note_late_occupants(Exchange *x) {
        Occupants s;
        int r = occupants_find(x->tree->id, NULL, &s);

        x->has_occupants |= r >= 0 && s.n_all > 0;
        return r;
}
