/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/refresh.h"

#include <fcntl.h>
#include <string.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/audit.h"
#include "core/digest.h"
#include "core/record-edit.h"
#include "core/recorded.h"
#include "core/redirect-max.h"
#include "core/refresh-internal.h"

void refresh_note(const RefreshDirectory *d, const char *name, const char *why) {
        _cleanup_free_ char *path = path_join(d->path, name);

        d->p->counts.n_excluded++;
        site_note(d->p->site, path ?: name, "%s", why);
}

static void directory_done(RefreshDirectory *d) {
        for (size_t i = 0; i < d->n; i++) {
                free(d->items[i].name);
                free(d->items[i].lower);
        }
        free(d->items);
        (void) fd_close(d->fd);
        d->view_fd = fd_close(d->view_fd);
        if (d->staging.site)
                (void) staging_remove(&d->staging);
        staging_done(&d->staging);
}

/* What is changed here is told, and left alone; but the content of a file of which only metadata is here is
 * the lower's all the same, and of a new length perhaps. */
static void note_own(RefreshDirectory *d, const Difference *x, bool keeps_attributes) {
        refresh_note(
                d, x->name,
                x->kind == DIFFERENCE_REMOVED
                        ? "it was removed from the lower layer, but changed here: it stays"
                        : keeps_attributes
                        ? "its content is that of the lower layer, which has changed; owner, mode and "
                          "attributes, which were changed here, stay"
                        : "it was changed in the lower layer and here: it stays as it is here");
}

/* The digest of what stands in the upper; 0 nothing. */
static uint64_t digest_upper(const RefreshDirectory *d, const char *name) {
        struct stat st;

        return fstatat(d->upper_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : digest_stat(&st);
}

static int collect(const Difference *x, void *userdata) {
        RefreshDirectory *d = userdata;
        uint64_t judged = x->entry ? digest_upper(d, x->name) : 0;
        /* Copied before a crash, and not recorded. */
        bool is_copied =
                x->is_own && x->kind == DIFFERENCE_CHANGED && judged == digest_stat(&x->st) && judged != 0;
        bool keeps_attributes =
                x->is_own && !is_copied && x->kind == DIFFERENCE_CHANGED && x->upper.class == UPPER_METACOPY;
        RefreshChange *grown, *c;

        if (x->is_own && !is_copied) {
                note_own(d, x, keeps_attributes);
                if (!keeps_attributes)
                        return 0;
        }
        grown = reallocarray(d->items, d->n + 1, sizeof(RefreshChange));
        if (!grown)
                return -ENOMEM;
        d->items = grown;
        c = grown + d->n++;
        *c = (RefreshChange){
                .kind = x->kind,
                .name = strdup(x->name),
                .lower = strdup(x->lower),
                .st = x->st,
                .inode = x->upper.inode,
                .class = x->upper.class,
                .base = is_copied  ? judged
                        : x->entry ? x->entry->base
                                   : 0,
                .xattrs = x->entry && !is_copied ? x->entry->xattrs : 0,
                .judged = judged,
                .keeps_attributes = keeps_attributes,
                .is_done = is_copied,
        };
        return c->name && c->lower ? 0 : -ENOMEM;
}

static int remove_one(RefreshDirectory *d, RefreshChange *c) {
        UpperEntry e = { .class = c->class, .inode = c->inode };
        int r = prune_entry(d->p, d->upper_fd, d->path, c->name, &e, /* is_own= */ false);

        c->is_done = r >= 0;
        return r;
}

static int tell_step(const RefreshDirectory *d, const RefreshChange *c) {
        static const char *const texts[] = {
                [DIFFERENCE_NEW] = "new in the lower layer",
                [DIFFERENCE_CHANGED] = "changed in the lower layer",
        };
        _cleanup_free_ char *path = path_join(d->path, c->name);
        const PlanStep step = {
                .name = c->kind == DIFFERENCE_NEW ? "add" : "replace",
                .path = path,
                .text = texts[c->kind],
                .n_entries = 1,
                .bytes = c->kind == DIFFERENCE_CHANGED ? (uint64_t) c->st.st_size : 0,
                .n_inodes = c->kind == DIFFERENCE_NEW,
        };

        return path ? d->p->hooks->step(&step, d->p->hooks->userdata) : -ENOMEM;
}

static int apply_one(RefreshDirectory *d, RefreshChange *c) {
        int r;

        if (site_is_canceled(d->p->site))
                return -ECANCELED;
        if (c->is_done)
                return 0;
        if (c->kind == DIFFERENCE_REMOVED)
                return remove_one(d, c);
        if (d->p->is_dry_run)
                return tell_step(d, c);
        r = c->kind == DIFFERENCE_NEW ? refresh_take(d, c) : refresh_replace(d, c);
        d->p->counts.n_entries += c->is_done;
        site_progress(d->p->site, JOB_APPLYING, d->p->counts.n_entries, 0);
        return r;
}

static int record_taken(Node *n, const RefreshDirectory *d, const RefreshChange *c) {
        unsigned char type = IFTODT(c->st.st_mode);
        _cleanup_close_ int fd = -EBADF;
        Entry *e;
        int r = node_add(n, c->name, type, &e);

        if (r < 0)
                return r == -EEXIST ? 0 : r;
        e->is_local = c->is_local;
        e->base = digest_stat(&c->st);
        e->xattrs = digest_xattrs(d->upper_fd, c->name);
        e->is_placed = true;
        if (type != DT_DIR || c->is_local)
                return 0;
        fd = open_dir_beneath(d->upper_fd, c->name);
        return fd < 0 ? fd : refresh_record_tree(e->dir, fd, c->lower);
}

static int record_changes(Node *n, void *userdata) {
        const RefreshDirectory *d = userdata;
        int r = 0;

        for (size_t i = 0; r >= 0 && i < d->n; i++) {
                const RefreshChange *c = d->items + i;
                Entry *e = node_find(n, c->name);

                if (!c->is_done)
                        continue;
                if (c->kind == DIFFERENCE_NEW)
                        r = record_taken(n, d, c);
                else if (e && c->kind == DIFFERENCE_REMOVED)
                        entry_drop(n, e);
                else if (e) {
                        e->base = c->base;
                        e->xattrs = c->xattrs;
                }
        }
        return r;
}

static int apply(RefreshDirectory *d) {
        int r = 0, k = 0;

        if (!d->p->is_dry_run) {
                d->fd = open_dir_beneath(d->p->site->root_fd, d->path);
                if (d->fd < 0)
                        return errno_is_gone(d->fd) ? 0 : d->fd;
        }
        for (size_t i = 0; r >= 0 && i < d->n; i++)
                r = apply_one(d, d->items + i);
        /* Also of what was done before something failed. */
        if (!d->p->is_dry_run)
                k = record_edit(d->p->site, d->node->tree->id, d->node->new_handle, record_changes, d);
        d->p->counts.n_directories++;
        return r < 0 ? r : k;
}

typedef struct Run {
        Prune *p;
        const char *path;
        Failure *reterr;
} Run;

static int refuse_gone(const Run *run, const Node *n, const char *path) {
        return failure_set(
                run->reterr, FAILURE_PRECONDITION, ENOENT,
                "'/%s', the lower directory of '%s/%s', was removed: there is nothing to take up; 'prune' "
                "removes what is left of it",
                n->lower, run->p->site->overlay->mount_point, path);
}

static int refresh_one(const Node *n, const char *path, int upper_fd, void *userdata) {
        const Run *run = userdata;
        const DifferenceScope scope = {
                .site = run->p->site, .lower = run->p->lower, .node = n, .upper_fd = upper_fd
        };
        RefreshDirectory d = {
                .p = run->p,
                .node = n,
                .path = path,
                .upper_fd = upper_fd,
                .fd = -EBADF,
                .view_fd = -EBADF,
                .staging = STAGING_INIT,
                .reterr = run->reterr,
        };
        int r;

        if (site_is_canceled(run->p->site))
                return -ECANCELED;
        r = difference_find(&scope, collect, &d, run->reterr);
        if (r == 1)
                r = strcmp(path, run->path) == 0 ? refuse_gone(run, n, path)
                                                 : prune_gone(run->p, n, path, upper_fd);
        else if (r >= 0 && d.n > 0)
                r = apply(&d);
        directory_done(&d);
        redirect_max_release(&run->p->site->redirect_max_hold);
        return r;
}

int refresh_run(Prune *p, const char *path, Failure *reterr) {
        Run run = { .p = p, .path = path, .reterr = reterr };
        int r = recorded_foreach(p->site, p->records, path, /* children_first= */ true, refresh_one, &run);

        return r < 0
                ? failure_set_errno(reterr, r, "cannot refresh '%s/%s'", p->site->overlay->mount_point, path)
                : 0;
}
