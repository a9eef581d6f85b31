/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a crash left, and what there is. */
#include "base/path-util.h"
#include "core/mark.h"
#include "core/recover.h"
#include "core/redirect-max.h"
#include "core/staging.h"
#include "core/work-internal.h"

/* A worker whose daemon was killed is killed as well, but may take a moment to die. */
#define PATIENCE_USEC (2 * USEC_PER_SEC)
#define LOOK_MSEC 50

typedef struct Survey {
        Site *site;
        Keepers *kept;
        char **busy; /* ids of work that others have locked */
        size_t n_busy;
        uint64_t n_left;
} Survey;

static int survey_one(const char *id, void *userdata) {
        _cleanup_failure_ Failure f = FAILURE_INIT;
        Survey *s = userdata;
        Exchange *x = NULL;
        int r = recover_one(s->site, id, &x, &f);

        if (r == -EBUSY)
                return path_list_add(&s->busy, &s->n_busy, id);
        if (r < 0) {
                /* ESTALE: somebody holds what it would be merged with; it goes later. */
                if (r != -ESTALE)
                        site_note(s->site, "", "%s", f.message ?: "cannot finish what a crash left");
                s->n_left++;
                return 0; /* the others can still be finished */
        }
        return keepers_retire(s->kept, x);
}

/* Those who are about to die are waited for, all of them together. Who lives on has it. */
static int survey_busy(Survey *s) {
        uint64_t end = now_monotonic_usec() + PATIENCE_USEC;
        int r = 0;

        while (r >= 0 && s->n_busy > 0 && now_monotonic_usec() < end && !site_is_canceled(s->site)) {
                char **ids = TAKE_PTR(s->busy);
                size_t n = s->n_busy;

                s->n_busy = 0;
                keepers_wait(s->kept, LOOK_MSEC);
                r = keepers_look(s->site, s->kept);
                for (size_t i = 0; r >= 0 && i < n; i++)
                        r = survey_one(ids[i], s);
                path_list_free(ids, n);
        }
        return r;
}

static int survey_works(Site *site, Keepers *kept, uint64_t *ret_n_left, Failure *reterr) {
        Survey s = { .site = site, .kept = kept };
        int r = staging_foreach(site, survey_one, &s, reterr);

        if (r >= 0)
                r = survey_busy(&s);
        *ret_n_left = s.n_left;
        path_list_free(s.busy, s.n_busy);
        return r;
}

static int survey_directories(Site *site, const WorkHooks *hooks, Failure *reterr) {
        _cleanup_(records_freep) Records *records = NULL;
        int r = work_load(site, "", &records, reterr);

        if (r >= 0) /* of what was not finished there may be none any more */
                r = records_prune(records, site->records_fd, site->upper_fd);
        if (r >= 0)
                r = audit_tree(site, records, "", hooks->report, hooks->userdata);
        if (r >= 0)
                r = audit_note_strays(site);
        site_forget_inner_mounts(site);
        return r < 0 ? failure_set_errno(reterr, r, "cannot survey '%s'", site->overlay->mount_point) : 0;
}

int work_survey(
        Site *site, const WorkHooks *hooks, Keepers *ret_kept, uint64_t *ret_n_left, Failure *reterr) {
        int r = survey_works(site, ret_kept, ret_n_left, reterr);

        if (r < 0)
                return r;
        redirect_max_recover();
        r = mark_repair(site, reterr);
        return r < 0 ? r : survey_directories(site, hooks, reterr);
}
