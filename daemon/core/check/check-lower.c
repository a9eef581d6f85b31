/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The one check that asks the lower layers: do their paths lead to what the overlay reads? They may not
 * answer, so a thread asks that is not waited for longer than 5 s; what it holds is then its own to free.
 * It keeps no other check from being told, so whoever runs the checks runs it last. */
#include <fcntl.h>
#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "core/check/check-internal.h"
#include "core/context/context.h"
#include "core/lower/lower.h"

#define PATIENCE_SEC 5

typedef struct Look {
        pthread_mutex_t lock;
        pthread_cond_t ended;
        bool is_ended;
        bool is_left; /* nobody waits any more */
        Overlay *o;
        Failure failure;
} Look;

static void look_free(Look *l) {
        failure_done(&l->failure);
        (void) overlay_free(l->o);
        (void) pthread_cond_destroy(&l->ended);
        (void) pthread_mutex_destroy(&l->lock);
        free(l);
}

static void look_at_layers(Look *l) {
        _cleanup_(context_done) Context context = CONTEXT_INIT;
        _cleanup_(lower_done) Lower lower = LOWER_INIT;

        if (context_open(&context, l->o, /* name= */ "", /* state_dir= */ NULL, &l->failure) >= 0)
                (void) lower_open(&context, &lower, &l->failure);
}

static void *look_run(void *userdata) {
        Look *l = userdata;
        bool is_left;

        look_at_layers(l);
        (void) pthread_mutex_lock(&l->lock);
        l->is_ended = true;
        is_left = l->is_left;
        (void) pthread_cond_signal(&l->ended);
        (void) pthread_mutex_unlock(&l->lock);
        if (is_left)
                look_free(l);
        return NULL;
}

static Look *look_new(Overlay *o) {
        Look *l = calloc(1, sizeof(Look));
        pthread_condattr_t attributes;

        if (!l)
                return NULL;
        l->o = o;
        (void) pthread_mutex_init(&l->lock, NULL);
        (void) pthread_condattr_init(&attributes);
        (void) pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        (void) pthread_cond_init(&l->ended, &attributes);
        (void) pthread_condattr_destroy(&attributes);
        return l;
}

static int say(const Look *l, Check *f) {
        const Failure *x = &l->failure;

        if (x->kind == FAILURE_NONE)
                return check_say(
                        f, CHECK_OK, "the paths of the lower layers lead to what the overlay reads");
        if (geteuid() != 0)
                return check_cannot_tell(f, EPERM, "look for the lower layers");
        return check_say(f, CHECK_WARNING, "%s", x->message ?: "the lower layers are not proved")
                ?: check_advise(
                           f,
                           x->error == EREMCHG
                                   ? "set LowerDir= in its configuration to where the lower layers are seen "
                                     "now; until then nothing is compared, refreshed or pruned"
                                   : x->kind == FAILURE_LOWER_UNPROVED
                                   ? "until it is proved nothing is compared, refreshed or pruned"
                                   : "see whether the server of the lower layers answers");
}

/* Frees l, now or when the thread has ended. */
static int wait_and_say(Look *l, Check *f) {
        struct timespec until = clock_deadline(PATIENCE_SEC * USEC_PER_SEC);
        bool is_left;
        int r = 0;

        (void) pthread_mutex_lock(&l->lock);
        while (!l->is_ended && r == 0)
                r = pthread_cond_timedwait(&l->ended, &l->lock, &until);
        is_left = l->is_left = !l->is_ended;
        (void) pthread_mutex_unlock(&l->lock);
        if (is_left) {
                r = check_say(f, CHECK_WARNING, "a lower layer does not answer within %d s", PATIENCE_SEC)
                        ?: check_advise(f, "see whether the server of the lower layers answers");
                return r < 0 ? r : 1;
        }
        r = say(l, f);
        look_free(l);
        return r;
}

int overlay_check_lower(Overlay *o, Check *ret) {
        Look *l = look_new(o);
        pthread_t thread;
        int r;

        if (!l) {
                (void) overlay_free(o);
                return -ENOMEM;
        }
        r = pthread_create(&thread, NULL, look_run, l);
        if (r != 0) {
                look_free(l);
                return -r;
        }
        (void) pthread_detach(thread);
        ret->id = "lower-path";
        return wait_and_say(l, ret);
}
