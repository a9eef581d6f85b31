/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/verify/verify.h"

#include <string.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/context/staging.h"
#include "core/context/throttle.h"
#include "core/lower/difference.h"
#include "core/state/audit.h"
#include "core/upper/names.h"
#include "core/verify/verify-internal.h"

/* Removed or replaced while we look, as users do. */
static bool is_gone(int r) {
        return errno_is_gone(r) || r == -ESTALE;
}

static void directory_done(VerifyDirectory *d) {
        d->upper_fd = fd_close(d->upper_fd);
        free(d->lower);
        path_list_done(&d->lower_names);
}

/* What a finalized directory was: the record knows, or its own redirect (written before it became opaque),
 * or what its entries say. */
static int find_former_lower(Verify *v, VerifyDirectory *d, const UpperEntry *e) {
        _cleanup_free_ char *handle = NULL;
        const Node *recorded = NULL;
        int r = 0;

        if (v->records && file_handle_at(d->upper_fd, "", &handle) >= 0)
                recorded = records_find(v->records, handle);
        if (recorded && recorded->lower)
                d->lower = strdup(recorded->lower);
        else if (upper_entry_has_absolute_redirect(e))
                d->lower = strdup(e->redirect + 1);
        else
                r = audit_guess_lower(d->upper_fd, &d->lower);
        if (r == -ENODATA)
                return 0; /* somebody's own directory */
        if (r < 0 || !d->lower)
                return r < 0 ? r : -ENOMEM;
        return v->records && !recorded ? verify_found(v, PROBLEM_NO_RECORD, d->path, NULL, false) : 0;
}

/* The rules by which the kernel looks a name up, a step down (ovl_lookup_layer()). */
static int find_lower(Verify *v, VerifyDirectory *d, const UpperEntry *e) {
        const VerifyDirectory *up = d->parent;
        const char *name = path_basename(d->path);

        d->has_origin = e->has_origin;
        if (e->class == UPPER_REDIRECT && upper_entry_has_absolute_redirect(e))
                d->lower = strdup(e->redirect + 1);
        else if (e->class == UPPER_OPAQUE || up->is_pure) {
                d->is_pure = true;
                return find_former_lower(v, d, e);
        } else
                d->lower = path_join(up->lower, e->redirect ?: name);
        return d->lower ? 0 : -ENOMEM;
}

/* Whether its lower directory can be listed: without that nobody sees what is in a merged one, and nothing
 * is found that is new below a finalized one. That it is missing is told by what stands for it. */
static int check_listing(Verify *v, const VerifyDirectory *d) {
        _cleanup_close_ int fd = d->lower ? lower_open_dir(v->lower, d->lower) : -ENOENT;
        char detail[512];
        int r = fd < 0 ? fd : dir_is_empty(fd);

        if (r >= 0 || errno_is_gone(r))
                return 0;
        (void) snprintf(detail, sizeof(detail), "'/%s' cannot be listed: %s", d->lower, strerror(-r));
        return verify_found(v, PROBLEM_LOWER_UNKNOWN, d->path, detail, false);
}

static int walk(Verify *v, VerifyDirectory *d);

static int descend(const VerifyEntry *x) {
        _cleanup_(directory_done) VerifyDirectory d = { .parent = x->dir, .path = x->path };
        int r;

        d.upper_fd = open_dir_beneath(x->dir->upper_fd, x->name);
        if (d.upper_fd < 0)
                return is_gone(d.upper_fd) ? 0 : d.upper_fd;
        r = find_lower(x->v, &d, x->e);
        if (r >= 0)
                r = check_listing(x->v, &d);
        return r < 0 ? r : walk(x->v, &d);
}

static void entry_done(VerifyEntry *x) {
        free(x->origin);
}

typedef struct Visit {
        Verify *v;
        VerifyDirectory *d;
} Visit;

static int visit(int dfd, const char *name, unsigned char type, void *userdata) {
        Visit *at = userdata;
        _cleanup_free_ char *path = path_join(at->d->path, name);
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        _cleanup_(entry_done)
                VerifyEntry x = { .v = at->v, .dir = at->d, .name = name, .path = path, .e = &e };
        int r;

        if (!path)
                return -ENOMEM;
        if (context_is_canceled(at->v->context))
                return -ECANCELED;
        if (is_staging_name(name))
                return verify_old_tree(at->v, name, path);
        r = upper_entry_read(dfd, name, &e);
        if (r < 0)
                return is_gone(r) ? 0 : verify_found(at->v, PROBLEM_UNREADABLE, path, strerror(-r), false);
        if (e.class == UPPER_MISSING)
                return 0;
        at->v->n_entries++;
        throttle_wait(at->v->context->throttle, at->v->context, 1);
        x.origin_size = xattr_read_at(dfd, name, XATTR_ORIGIN, &x.origin);
        /* A marked directory keeps its origin, but is not merged: the kernel takes it for pure. */
        at->d->needs_impure |= e.has_live_origin && e.class != UPPER_OPAQUE;
        context_progress(at->v->context, JOB_RUNNING, at->v->n_entries, 0);
        r = verify_entry(&x);
        return r < 0 || e.type != DT_DIR ? r : descend(&x);
}

/* The kernel sets it when an entry with an origin comes in, before that (ovl_set_impure). */
static int check_impure(Verify *v, const VerifyDirectory *d) {
        _cleanup_free_ char *value = NULL;

        if (!d->needs_impure || xattr_read_fd(d->upper_fd, XATTR_IMPURE, &value) > 0)
                return 0;
        return verify_found(v, PROBLEM_WRONG_IMPURE, d->path, NULL, v->want_repair && repair_impure(d) > 0);
}

static int walk(Verify *v, VerifyDirectory *d) {
        Visit at = { .v = v, .d = d };
        int r = dir_foreach(d->upper_fd, visit, &at);

        if (is_gone(r))
                return 0;
        return r < 0 ? r : check_impure(v, d);
}

/* Where the walk begins: the directories above are not judged. */
static int open_start(Verify *v, VerifyDirectory *d) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        bool in_upper;
        int r;

        d->path = v->path;
        d->upper_fd = open_dir_beneath(v->context->upper_fd, v->path);
        if (d->upper_fd < 0)
                return d->upper_fd;
        r = upper_lower_path(v->context->upper_fd, v->path, &d->lower, &in_upper);
        if (r >= 0)
                r = upper_entry_read(d->upper_fd, "", &e);
        if (r < 0)
                return r;
        d->has_origin = e.has_origin;
        d->is_pure = !d->lower;
        return d->is_pure ? find_former_lower(v, d, &e) : 0;
}

int verify_run(Verify *v, Failure *reterr) {
        _cleanup_(directory_done) VerifyDirectory top = { .upper_fd = -EBADF };
        const char *point = v->context->overlay->mount_point;
        int r = open_start(v, &top);

        if (is_gone(r)) /* nothing of it in the upper: nothing that could be wrong */
                return 0;
        if (r >= 0)
                r = check_listing(v, &top);
        if (r >= 0)
                r = walk(v, &top);
        if (r >= 0 && v->path[0] == '\0')
                r = verify_leftovers(v);
        return r < 0 ? failure_set_errno(reterr, r, "cannot verify '%s/%s'", point, v->path) : 0;
}
