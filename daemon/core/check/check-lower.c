/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The one check that asks the lower layers: do their paths lead to what the overlay reads? They may not
 * answer, so a thread asks that is not waited for longer than 5 s; what it holds is then its own to free.
 * It keeps no other check from being told, so whoever runs the checks runs it last. */

#include "base/patience.h"
#include "core/check/check-internal.h"
#include "core/context/context.h"
#include "core/lower/lower.h"

#define PATIENCE_USEC (5 * USEC_PER_SEC)

typedef struct Look {
        Overlay *o;
        Failure failure;
} Look;

static void look_free(void *userdata) {
        Look *l = userdata;

        failure_done(&l->failure);
        (void) overlay_free(l->o);
        free(l);
}

static int look_at_layers(void *userdata) {
        _cleanup_(context_done) Context context = CONTEXT_INIT;
        _cleanup_(lower_done) Lower lower = LOWER_INIT;
        Look *l = userdata;

        if (context_open(&context, l->o, /* name= */ "", /* state_dir= */ NULL, &l->failure) >= 0)
                (void) lower_open(&context, &lower, &l->failure);
        return 0;
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

int overlay_check_lower(Overlay *o, Check *ret) {
        Patience patience = { .left_usec = PATIENCE_USEC, .look_usec = PATIENCE_USEC };
        Look *l = calloc(1, sizeof(Look));
        int r;

        if (!l) {
                (void) overlay_free(o);
                return -ENOMEM;
        }
        l->o = o;
        ret->id = "lower-path";
        r = patience_call(&patience, look_at_layers, l, look_free);
        if (r == -ETIMEDOUT) {
                r = check_say(
                            ret, CHECK_WARNING, "a lower layer does not answer within %u s",
                            (unsigned) (PATIENCE_USEC / USEC_PER_SEC))
                        ?: check_advise(ret, "see whether the server of the lower layers answers");
                return r < 0 ? r : 1;
        }
        if (r >= 0)
                r = say(l, ret);
        look_free(l);
        return r;
}
