/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/release/prune.h"

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/context/error-scope.h"
#include "core/context/orphan.h"
#include "core/context/staging.h"
#include "core/lower/difference.h"
#include "core/record/recorded.h"
#include "core/release/fingerprint.h"
#include "core/upper/names.h"

static int tell_step(Prune *p, const char *path, const char *text) {
        const PlanStep step = { .name = "remove", .path = path, .text = text, .n_entries = 1 };

        return p->is_dry_run ? p->hooks->step(&step, p->hooks->userdata) : 0;
}

static void note_kept(const Prune *p, const char *path, const char *why) {
        context_note(p->context, path, "%s", why);
}

static int stays(Prune *p, const char *path, const char *why) {
        p->counts.n_excluded++;
        note_kept(p, path, why);
        return 0;
}

int prune_leave(
        Prune *p, ErrorCall call, const char *what, int dfd, const char *name, const char *path, int r) {
        _cleanup_free_ char *full = NULL, *reason = NULL;

        if (r >= 0 || errno_is_gone(r))
                return 0;
        if (error_scope(p->context, call, r) != SCOPE_ENTRY)
                return r;
        full = path_join(p->context->overlay->mount_point, path);
        reason = full ? error_reason(r, call, what, full, dfd, name) : NULL;
        return reason ? stays(p, path, reason) : -ENOMEM;
}

int prune_entry(
        Prune *p,
        int upper_fd,
        const char *path,
        const char *name,
        const UpperEntry *e,
        bool is_locally_modified) {
        _cleanup_free_ char *full = path_join(path, name);
        _cleanup_close_ int fd = -EBADF;
        int r;

        if (!full)
                return -ENOMEM;
        /* Its attributes were changed, but there is no content any more that they could be of. */
        if (is_locally_modified && p->context->options.force && e->class == UPPER_METACOPY)
                is_locally_modified = false;
        if (is_locally_modified)
                return stays(p, full, "it was removed from the lower layer, but changed here: it stays");
        r = tell_step(p, full, "its lower counterpart was removed, and nothing was changed here");
        if (r < 0 || p->is_dry_run) {
                p->counts.n_entries++;
                return r;
        }
        fd = open_dir_beneath(p->context->root_fd, path);
        if (fd < 0)
                return errno_is_gone(fd) ? 0 : fd;
        if (e->class == UPPER_COMPLETE && file_has_writer(fd, name))
                return stays(
                        p, full, "it was removed from the lower layer, but somebody writes to it: it stays");
        r = orphan_remove(
                p->context->root_fd, (DirectoryPair){ .fd = fd, .upper_fd = upper_fd }, name, e->inode);
        if (r == ORPHAN_REPLACED)
                return stays(p, full, "it was replaced just now: it stays");
        if (r == -EBUSY)
                return stays(
                        p, full,
                        "its lower counterpart was removed, but somebody uses it: it stays for now");
        if (r < 0)
                return prune_leave(p, CALL_MAKE, "remove", fd, name, full, r);
        p->counts.n_entries++;
        return 1;
}

int prune_directory_gone(Prune *p, const char *path) {
        _cleanup_free_ char *parent = path_dirname(path);
        _cleanup_pair_ DirectoryPair around = DIRECTORY_PAIR_INIT;
        int r;

        if (!parent)
                return -ENOMEM;
        r = tell_step(p, path, "its lower directory was removed");
        if (r < 0 || p->is_dry_run)
                return r;
        r = pair_open(context_root(p->context), parent, &around);
        if (r < 0)
                return errno_is_gone(r) ? 0 : r;
        r = orphan_remove_directory(around, path_basename(path));
        if (r == -ENOTEMPTY || r == -EBUSY) {
                note_kept(
                        p, path,
                        "its lower directory was removed, but it holds something of its own: it stays");
                return 0;
        }
        if (r < 0)
                return prune_leave(p, CALL_MAKE, "remove", around.fd, path_basename(path), path, r);
        p->counts.n_directories++;
        r = p->hooks->report(
                &(DirectoryReport){ .path = path, .state = DIRECTORY_MERGED }, p->hooks->userdata);
        return r < 0 ? r : 1;
}

typedef struct Gone {
        Prune *p;
        const Node *node;
        const char *path;
        Failure *unknown;
} Gone;

/* A file that was moved here stands for a lower one elsewhere, which may be there as ever. */
static bool stands_for_removed(const Gone *g, const char *path, const UpperEntry *e) {
        return e->class != UPPER_METACOPY || !upper_entry_has_absolute_redirect(e) ||
                path_startswith(e->redirect + 1, g->node->lower) ||
                prune_is_lower_gone(g->p, path, e->redirect + 1, g->unknown) > 0;
}

static int visit_gone(int upper_fd, const char *name, unsigned char type, void *userdata) {
        const Gone *g = userdata;
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        _cleanup_free_ char *full = path_join(g->path, name);
        const Entry *recorded = node_find(g->node, name);
        int r;

        if (!full)
                return -ENOMEM;
        if (is_staging_name(name))
                return 0;
        r = upper_entry_read(upper_fd, name, &e);
        if (r < 0 || e.class == UPPER_MISSING || e.class == UPPER_WHITEOUT)
                return prune_leave(g->p, CALL_READ, "look at", upper_fd, name, full, r);
        if (e.class == UPPER_REDIRECT)
                return prune_merged(g->p, full, g->unknown);
        if (e.type == DT_DIR)
                return 0; /* finalized ones came by themselves, before this one */
        if (recorded && recorded->is_local)
                recorded = NULL;
        if ((!recorded && e.class != UPPER_METACOPY) || !stands_for_removed(g, full, &e))
                return stays(
                        g->p, full,
                        "it was made or moved here, into a directory that was removed from the lower layer: "
                        "it stays");
        return prune_entry(
                g->p, upper_fd, g->path, name, &e, entry_is_locally_modified(upper_fd, name, recorded, &e));
}

/* In the record of the directory around it, which may be another one than its own. */
static int forget_directory(Prune *p, const Node *n, const char *path) {
        _cleanup_free_ char *parent = path_dirname(path), *handle = NULL;
        _cleanup_close_ int fd = parent ? open_dir_beneath(p->context->upper_fd, parent) : -ENOMEM;
        const Node *around;
        int r = fd < 0 ? fd : file_handle_at(fd, "", &handle);

        if (r < 0)
                return errno_is_gone(r) ? 0 : r;
        around = records_find(p->records, handle);
        if (!around)
                return 0;
        r = context_make_durable(p->context, p->reterr);
        return r < 0 ? r
                     : record_edit(
                               &p->editor, around, record_forget,
                               (void *) (around == n->parent ? n->entry->name : path_basename(path)));
}

int prune_gone(Prune *p, const Node *n, const char *path, int upper_fd) {
        _cleanup_failure_ Failure unknown = FAILURE_INIT; /* it is noted, and what it is about stays */
        Gone g = { .p = p, .node = n, .path = path, .unknown = &unknown };
        int r = dir_foreach(upper_fd, visit_gone, &g);

        if (r >= 0)
                r = prune_directory_gone(p, path);
        return r == 1 ? forget_directory(p, n, path) : r;
}

/* An entry of a finalized directory that the lower has removed. */
typedef struct Removal {
        char *name;
        UpperEntry upper; /* class and inode of it; nothing that is to be freed */
        uint64_t ctime;   /* what the record said */
        bool is_locally_modified;
        bool is_done;
} Removal;

typedef struct Scope {
        Prune *p;
        const char *path;
        int upper_fd;
        Removal *items;
        size_t n;
} Scope;

static void scope_done(Scope *s) {
        for (size_t i = 0; i < s->n; i++)
                free(s->items[i].name);
        free(s->items);
}

static int on_difference(const Difference *d, void *userdata) {
        Scope *s = userdata;

        if (d->kind != DIFFERENCE_REMOVED)
                return 0;
        if (d->is_locally_modified && !s->p->context->options.force) /* it stays, and that is told */
                return prune_entry(s->p, s->upper_fd, s->path, d->name, &d->upper, true);
        if (!ARRAY_GROW(s->items, s->n))
                return -ENOMEM;
        s->items[s->n] = (Removal){
                .name = strdup(d->name),
                .upper = { .class = d->upper.class, .inode = d->upper.inode },
                .is_locally_modified = d->is_locally_modified,
        };
        return s->items[s->n++].name ? 0 : -ENOMEM;
}

static int set_intents(Node *n, void *userdata) {
        Scope *s = userdata;

        for (size_t i = 0; i < s->n; i++) {
                Entry *e = node_find(n, s->items[i].name);

                if (!e)
                        continue;
                s->items[i].ctime = entry_ctime(e);
                e->ctime = CTIME_BEING_REMOVED;
        }
        return 0;
}

static int record_outcome(Node *n, void *userdata) {
        const Scope *s = userdata;

        for (size_t i = 0; i < s->n; i++) {
                Entry *e = node_find(n, s->items[i].name);

                if (e && s->items[i].is_done)
                        entry_forget(n, e);
                else if (e)
                        e->ctime = s->items[i].ctime;
        }
        return 0;
}

static int remove_all(Scope *s, const Node *n) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < s->n; i++) {
                Removal *m = s->items + i;

                /* Once more: others were removed since. */
                m->is_locally_modified |=
                        entry_is_locally_modified(s->upper_fd, m->name, node_find(n, m->name), &m->upper);
                r = context_is_canceled(s->p->context)
                        ? -ECANCELED
                        : prune_entry(
                                  s->p, s->upper_fd, s->path, m->name, &m->upper, m->is_locally_modified);
                m->is_done = r > 0;
        }
        return r < 0 ? r : 0;
}

/* The record says before that they are being removed, for a kill in between would look as if somebody had
 * deleted them; and forgets them when they are gone from the disk, for one that came back with a power loss
 * would be taken for somebody's own. */
static int remove_recorded(Scope *s, const Node *n) {
        int r, k;

        if (s->n == 0)
                return 0;
        if (s->p->is_dry_run)
                return remove_all(s, n);
        r = record_edit(&s->p->editor, n, set_intents, s);
        if (r < 0)
                return r;
        r = remove_all(s, n);
        k = context_make_durable(s->p->context, s->p->reterr);
        if (k >= 0)
                k = record_edit(&s->p->editor, n, record_outcome, s);
        return r < 0 ? r : k;
}

static void note_unknown(Prune *p, const char *path, Failure *f, Failure *reterr) {
        context_note(p->context, path, "%s", f->message ?: "the lower layers do not tell");
        p->counts.n_excluded++;
        failure_move(reterr, f);
}

typedef struct Run {
        Prune *p;
        Failure *reterr;
} Run;

static int prune_recorded(const Node *n, const char *path, int upper_fd, void *userdata) {
        Run *run = userdata;
        Prune *p = run->p;
        const DifferenceScope scope = {
                .context = p->context, .lower = p->lower, .node = n, .upper_fd = upper_fd
        };
        Scope s = { .p = p, .path = path, .upper_fd = upper_fd };
        _cleanup_failure_ Failure f = FAILURE_INIT;
        int r;

        if (context_is_canceled(p->context))
                return -ECANCELED;
        r = difference_find(&scope, on_difference, &s, &f);
        if (r < 0 &&
            (f.kind == FAILURE_LOWER_UNREACHABLE || error_scope(p->context, CALL_READ, r) == SCOPE_ENTRY)) {
                note_unknown(p, path, &f, run->reterr);
                r = 0;
        } else if (r == DIFFERENCES_GONE)
                r = prune_gone(p, n, path, upper_fd);
        else if (r == DIFFERENCES_REPLACED)
                note_kept(
                        p, path, "it is no directory in the lower layer any more: 'refresh' takes that up");
        if (r >= 0)
                r = remove_recorded(&s, n);
        scope_done(&s);
        context_progress(p->context, JOB_RUNNING, p->counts.n_entries, 0);
        return r;
}

int prune_run(Prune *p, const char *path, Failure *reterr) {
        _cleanup_failure_ Failure unknown = FAILURE_INIT;
        Run run = { .p = p, .reterr = &unknown };
        int r;

        p->reterr = reterr;
        r = recorded_foreach(
                p->context->upper_fd, p->records, path, /* children_first= */ true, prune_recorded, &run);
        if (r >= 0)
                r = prune_merged(p, path, &unknown);
        if (r < 0)
                return failure_set_errno(
                        reterr, r, "cannot prune '%s/%s'", p->context->overlay->mount_point, path);
        r = -unknown.error;
        failure_move(reterr, &unknown);
        return r;
}
