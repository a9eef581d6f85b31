/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/release/refresh.h"

#include <fcntl.h>
#include <string.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "base/str.h"
#include "core/context/error-scope.h"
#include "core/mount/reconfigure.h"
#include "core/record/recorded.h"
#include "core/release/refresh-identity.h"
#include "core/release/refresh-internal.h"
#include "core/state/audit.h"
#include "core/upper/digest.h"
#include "core/upper/observe.h"
#include "core/upper/redirect-max.h"

static DifferenceScope difference_scope(const RefreshDirectory *d) {
        return (DifferenceScope){
                .context = d->p->context,
                .lower = d->p->lower,
                .node = d->node,
                .upper_fd = d->pair.upper_fd,
        };
}

static void directory_done(RefreshDirectory *d) {
        for (size_t i = 0; i < d->n; i++) {
                free(d->items[i].name);
                free(d->items[i].lower);
        }
        free(d->items);
        (void) fd_close(d->pair.fd);
        d->view_fd = fd_close(d->view_fd);
        if (d->staging.context && staging_remove(&d->staging) < 0)
                d->p->counts.needs_survey = true;
        staging_done(&d->staging);
}

/* What is changed here is told, and left alone; but the content of a file of which only metadata is here is
 * the lower's all the same, and of a new length perhaps. */
static void note_locally_modified(RefreshDirectory *d, const Difference *x, bool keeps_attributes) {
        refresh_note(
                d, x->name,
                x->kind == DIFFERENCE_ATTRIBUTES ? "owner, mode or xattrs of the directory were changed in "
                                                   "the lower layer and here: they stay as they are here"
                        : x->kind == DIFFERENCE_REMOVED
                        ? "it was removed from the lower layer, but changed here: it stays"
                        : keeps_attributes
                        ? "its content is that of the lower layer, which has changed; owner, mode and "
                          "attributes, which were changed here, stay"
                        : "it was changed in the lower layer and here: it stays as it is here");
}

/* Of a file whose content is the lower's, and whose attributes are somebody's. */
static bool has_other_content(const Difference *x, const struct stat *here) {
        return x->upper.class == UPPER_METACOPY && S_ISREG(x->st.st_mode) &&
                (x->st.st_size != here->st_size || x->st.st_mtim.tv_sec != here->st_mtim.tv_sec);
}

/* Nothing of its data is copied: all that is to be brought over is owner, mode and xattrs, if they differ at
 * all from what is here. */
static void
judge_content(const RefreshDirectory *d, const Difference *x, RefreshChange *c, const struct stat *here) {
        const DifferenceScope scope = difference_scope(d);

        c->has_same_content = c->xattrs != 0 && difference_has_same_content(&scope, x);
        c->is_same_file = c->has_same_content && difference_is_same_file(&scope, x) > 0;
        c->is_same = c->has_same_content && digest_stat(here) == digest_stat(&x->st) &&
                c->xattrs == c->judged.xattrs;
}

/* What a change amounts to, besides what was found. */
static int
judge(const RefreshDirectory *d, const Difference *x, RefreshChange *c, bool *ret_is_locally_modified) {
        struct stat here = { 0 };
        int r = 0;

        *ret_is_locally_modified = x->is_locally_modified;
        if (x->kind == DIFFERENCE_NEW || x->kind == DIFFERENCE_CHANGED)
                c->xattrs = digest_xattrs(d->p->lower->view_fd, x->lower);
        if (x->kind != DIFFERENCE_CHANGED && x->kind != DIFFERENCE_REMOVED)
                return 0;
        r = fingerprint_of(d->pair.upper_fd, x->name, &c->judged);
        if (r < 0 || c->judged.inode != x->upper.inode)
                return r < 0 ? r : -ENOENT;
        if (x->upper.type == DT_DIR) {
                _cleanup_close_ int fd = open_dir_beneath(d->pair.upper_fd, x->name);

                r = fd < 0 ? fd : refresh_holds_local(d->p->records, fd);
                *ret_is_locally_modified = r > 0;
                return r < 0 ? r : 0;
        }
        /* Once more, of the very state that the fingerprint was taken of. */
        *ret_is_locally_modified |=
                entry_is_locally_modified(d->pair.upper_fd, x->name, x->entry, &x->upper);
        if (x->kind == DIFFERENCE_REMOVED)
                return 0;
        if (fstatat(d->pair.upper_fd, x->name, &here, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        /* Copied before a crash, and not recorded. */
        c->is_done = *ret_is_locally_modified && digest_stat(&here) == digest_stat(&x->st) &&
                c->judged.xattrs == c->xattrs;
        *ret_is_locally_modified &= !c->is_done;
        c->keeps_attributes = *ret_is_locally_modified && has_other_content(x, &here);
        if (!*ret_is_locally_modified && !c->is_done)
                judge_content(d, x, c, &here);
        return 0;
}

static int collect(const Difference *x, void *userdata) {
        RefreshDirectory *d = userdata;
        const DifferenceScope scope = difference_scope(d);
        RefreshChange c = { .kind = x->kind, .st = x->st, .type = x->upper.type };
        bool is_locally_modified;
        int r;

        d->has_removed |= x->kind == DIFFERENCE_REMOVED;
        r = judge(d, x, &c, &is_locally_modified);

        if (r < 0)
                return errno_is_gone(r) ? 0 : r;
        if (is_locally_modified) {
                note_locally_modified(d, x, c.keeps_attributes);
                if (!c.keeps_attributes)
                        return 0;
        }
        /* So that they count as somebody's also from now on. */
        if (c.keeps_attributes)
                c.xattrs = x->entry->xattrs;
        if (!c.is_done && (d->p->is_dry_run || !d->p->context->options.is_asked)) {
                c.bytes = refresh_measure(&scope, x);
                refresh_cost_add(&d->cost, c.bytes);
        }
        if (!ARRAY_GROW(d->items, d->n))
                return -ENOMEM;
        c.name = strdup(x->name);
        c.lower = strdup(x->lower);
        d->items[d->n++] = c;
        return c.name && c.lower ? 0 : -ENOMEM;
}

static int remove_one(RefreshDirectory *d, RefreshChange *c) {
        const UpperEntry e = { .class = c->judged.class, .inode = c->judged.inode };
        int r;

        if (!d->p->is_dry_run && !fingerprint_holds(&c->judged, d->pair, c->name)) {
                refresh_note(d, c->name, "it is being changed here right now: it stays as it is here");
                return 0;
        }
        r = prune_entry(d->p, d->pair.upper_fd, d->path, c->name, &e, /* is_locally_modified= */ false);
        c->is_done = r > 0;
        return r;
}

static int tell_step(const RefreshDirectory *d, const RefreshChange *c) {
        static const struct {
                const char *name, *text;
        } steps[] = {
                [DIFFERENCE_NEW] = { "add", "new in the lower layer" },
                [DIFFERENCE_CHANGED] = { "replace", "changed in the lower layer" },
                [DIFFERENCE_ATTRIBUTES] = { "dress",
                                            "owner, mode or xattrs changed in the lower layer: no data is "
                                            "copied" },
        };
        _cleanup_free_ char *path = path_join(d->path, c->name);
        size_t i = c->has_same_content && !c->is_same ? DIFFERENCE_ATTRIBUTES : c->kind;
        const PlanStep step = {
                .name = steps[i].name,
                .path = path,
                .text = c->is_same ? "another file that looks the same: no data is copied" : steps[i].text,
                .n_entries = 1,
                .bytes = c->bytes,
                .n_inodes = c->kind == DIFFERENCE_NEW,
        };

        return path ? d->p->hooks->step(&step, d->p->hooks->userdata) : -ENOMEM;
}

static int apply_one(RefreshDirectory *d, RefreshChange *c) {
        int r;

        if (context_is_canceled(d->p->context))
                return -ECANCELED;
        if (c->is_done)
                return 0;
        if (c->kind == DIFFERENCE_REMOVED)
                return remove_one(d, c);
        if (d->p->is_dry_run)
                return tell_step(d, c);
        if (c->is_same) {
                c->is_done = true;
                d->p->counts.n_entries++;
                return refresh_note_file(d, c);
        }
        r = c->kind == DIFFERENCE_NEW              ? refresh_take(d, c)
                : c->kind == DIFFERENCE_ATTRIBUTES ? refresh_attributes(d, c)
                : refresh_has_attributes(c)        ? refresh_file_attributes(d, c)
                                                   : refresh_replace(d, c);
        d->p->counts.n_entries += c->is_done;
        context_progress(d->p->context, JOB_APPLYING, d->p->counts.n_entries, 0);
        return r;
}

/* An old tree that is being removed: what is new can be taken up in a moment, by another try. */
static bool is_held_up(const RefreshDirectory *d, int r) {
        return r == -FAILURE_ERROR_HELD && d->reterr->kind == FAILURE_BUSY;
}

/* What belongs to one entry, or to what is below it, leaves it as it is. Who stands in the way is named. */
static int leave_out(const RefreshDirectory *d, const char *name, const char *lower, int r) {
        _cleanup_free_ char *path = NULL, *full = NULL, *reason = NULL;

        if (d->is_full || d->is_unsynced || is_held_up(d, r) ||
            error_scope(d->p->context, CALL_DATA, r) != SCOPE_ENTRY)
                return r;
        path = path_join(d->path, name);
        full = path ? path_join(d->p->context->overlay->mount_point, path) : NULL;
        reason = d->is_occupied && d->reterr->message ? strdup(d->reterr->message)
                : full
                ? error_reason(
                          r, CALL_DATA, "take up what has changed of", full, d->p->lower->view_fd, lower)
                : NULL;
        if (!reason)
                return -ENOMEM;
        refresh_note(d, name, reason);
        failure_done(d->reterr);
        return 0;
}

/* Also of what was done before something failed. What is not on disk stays unrecorded, as after a kill. */
static int record(RefreshDirectory *d) {
        bool is_changed = false;
        int r = 0;

        if (d->is_unsynced)
                return 0;
        for (size_t i = 0; i < d->n; i++)
                is_changed |= d->items[i].is_done || d->items[i].is_begun;
        if (is_changed)
                r = refresh_make_durable(d);
        return r < 0 ? r : record_edit(&d->p->editor, d->node, refresh_record, d);
}

static int apply(RefreshDirectory *d) {
        int r = 0, k = 0;

        if (!d->p->is_dry_run) {
                d->pair.fd = open_dir_beneath(d->p->context->root_fd, d->path);
                if (d->pair.fd < 0)
                        return errno_is_gone(d->pair.fd) ? 0 : d->pair.fd;
                /* Marked, and not in effect: the kernel would not merge the lower directory once more
                 * (docs/overlayfs.md 4.1). */
                if (observe_directory(d->pair.fd) == OBSERVED_MERGED) {
                        refresh_note(
                                d, "",
                                "somebody uses it as it was before it was marked: refresh again later");
                        return 0;
                }
        }
        if (!d->p->is_dry_run)
                r = refresh_record_intents(d);
        for (size_t i = 0; r >= 0 && i < d->n; i++) {
                r = apply_one(d, d->items + i);
                r = r < 0 ? leave_out(d, d->items[i].name, d->items[i].lower, r) : 0;
        }
        if (!d->p->is_dry_run)
                k = record(d);
        d->p->counts.n_directories++;
        return r < 0 ? r : k;
}

/* Whoever has not asked for it would not expect that much of a disk to be taken. */
static int refuse_cost(const RefreshDirectory *d) {
        _cleanup_free_ char *why = str_format(
                "to take up what changed in the lower layer, %llu bytes are to be copied, more than a "
                "refresh does that nobody asked for (Data=, MinFreeSpace=): run 'ovlfinctl refresh %s/%s'",
                (unsigned long long) d->cost.bytes, d->p->context->overlay->mount_point, d->path);

        if (!why)
                return -ENOMEM;
        refresh_note(d, "", why);
        return 0;
}

typedef struct Run {
        Prune *p;
        const char *path;
        Identities identities;
        Failure *reterr;
} Run;

static int refuse_gone(const Run *run, const Node *n, const char *path) {
        return failure_set(
                run->reterr, FAILURE_PRECONDITION, ENOENT,
                "'/%s', the lower directory of '%s/%s', was removed: there is nothing to take up; 'prune' "
                "removes what is left of it",
                n->lower, run->p->context->overlay->mount_point, path);
}

static int refuse_replaced(const Run *run, const Node *n, const char *path) {
        return failure_set(
                run->reterr, FAILURE_PRECONDITION, ENOTDIR,
                "'/%s', of which '%s/%s' was made, is no directory in the lower layers any more: refresh "
                "the directory around it; if that is not finalized, move away what is needed of '%s/%s', "
                "and remove it from the upper layer with the overlay unmounted",
                n->lower, run->p->context->overlay->mount_point, path, run->p->context->overlay->mount_point,
                path);
}

static int refresh_one(const Node *n, const char *path, int upper_fd, void *userdata) {
        Run *run = userdata;
        RefreshDirectory d = {
                .p = run->p,
                .node = n,
                .path = path,
                .pair = { .fd = -EBADF, .upper_fd = upper_fd },
                .view_fd = -EBADF,
                .staging = STAGING_INIT,
                .reterr = run->reterr,
        };
        const DifferenceScope scope = difference_scope(&d);
        int r, k;

        if (context_is_canceled(run->p->context))
                return -ECANCELED;
        r = difference_find(&scope, collect, &d, run->reterr);
        k = identities_note(&run->identities, n, r != DIFFERENCES_FOUND || d.has_removed);
        if (r == DIFFERENCES_GONE)
                r = strcmp(path, run->path) == 0 ? refuse_gone(run, n, path)
                                                 : prune_gone(run->p, n, path, upper_fd);
        else if (r == DIFFERENCES_REPLACED) /* else the directory around it does */
                r = strcmp(path, run->path) == 0 ? refuse_replaced(run, n, path) : 0;
        else if (r >= 0 && d.n > 0)
                r = !run->p->context->options.is_asked && !run->p->is_dry_run &&
                                refresh_cost_is_too_much(&d.cost, run->p->context, path)
                        ? refuse_cost(&d)
                        : apply(&d);
        else if (r < 0 && strcmp(path, run->path) != 0)
                r = leave_out(&d, "", n->lower, r);
        directory_done(&d);
        redirect_max_release(&run->p->context->redirect_max_hold);
        return r < 0 ? r : k;
}

int refresh_run(Prune *p, const char *path, Failure *reterr) {
        Run run = { .p = p, .path = path, .reterr = reterr };
        int r;

        p->reterr = reterr;
        context_doing(p->context, REFRESH_DOING);
        r = recorded_foreach(
                p->context->upper_fd, p->records, path, /* children_first= */ true, refresh_one, &run);
        /* What is in memory still leads to the files of before. */
        if (r >= 0 && p->has_others)
                r = remount_reconfigure(p->context->root_fd, reterr);
        if (r >= 0 && !p->is_dry_run)
                r = identities_take(&run.identities, p);
        identities_done(&run.identities);
        return r < 0 ? failure_set_errno(
                               reterr, r, "cannot refresh '%s/%s'", p->context->overlay->mount_point, path)
                     : 0;
}
