/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/lower/difference.h"

#include <fcntl.h>
#include <string.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/context/staging.h"
#include "core/context/throttle.h"
#include "core/upper/digest.h"
#include "core/upper/names.h"

bool entry_is_locally_modified(int upper_fd, const char *name, const Entry *recorded, const UpperEntry *e) {
        struct stat st;

        if (!recorded || recorded->base == 0)
                return e->class != UPPER_METACOPY;
        if (fstatat(upper_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return true;
        if (digest_content(&st) == recorded->base) /* its attributes are being set */
                return false;
        if (digest_stat(&st) != recorded->base)
                return true;
        return recorded->xattrs != 0 && digest_xattrs(upper_fd, name) != recorded->xattrs;
}

/* A rename in a merged directory leaves a redirect on files whose data is in the lower, and on directories.
 */
static bool is_under_its_lower_name(const UpperEntry *ue) {
        switch (ue->class) {
        case UPPER_MISSING:
        case UPPER_WHITEOUT:
                return true;
        case UPPER_METACOPY:
                return !ue->redirect;
        case UPPER_PLAIN:
                return ue->has_origin;
        default:
                return false;
        }
}

bool difference_is_unknown_below(const Node *n, const char *name, const Lower *l) {
        _cleanup_free_ char *path = NULL;
        struct stat st;

        if (l->n_layers == 0 || !n->lower)
                return false;
        path = path_join(n->lower, name);
        return path && lower_stat(l, path, &st) == -ENOENT && lower_stat(l, n->lower, &st) >= 0 &&
                S_ISDIR(st.st_mode);
}

bool difference_is_local(const Node *n, const char *name, const UpperEntry *ue, const Lower *l) {
        return !is_under_its_lower_name(ue) && difference_is_unknown_below(n, name, l);
}

void difference_note_known(Entry *e, const Lower *l, const struct stat *st, uint64_t xattrs) {
        e->base = digest_stat(st);
        e->ctime = lower_ctime(l, st);
        e->xattrs = xattrs;
}

void difference_note(Entry *e, const Lower *l, const char *lower) {
        struct stat st;

        if (l->n_layers > 0 && lower_stat(l, lower, &st) >= 0)
                difference_note_known(e, l, &st, digest_xattrs(l->view_fd, lower));
}

void difference_note_directory(Node *n, const Lower *l) {
        if (l->n_layers > 0 && n->lower)
                n->base = digest_directory(l->view_fd, n->lower);
}

typedef struct Search {
        const DifferenceScope *scope;
        difference_func func;
        void *userdata;
        Failure *reterr;
} Search;

static bool has_lower(const Node *n) {
        if (n->lower)
                return true;
        ENTRY_FOREACH (n, e)
                if (e->dir && has_lower(e->dir))
                        return true;
        return false;
}

/* A name that was made here is new in the lower when it gets it, too. Not where a directory is recorded with
 * it that has a lower one: wherever that is by now, its undo goes by the record. */
static bool is_known(const Node *n, const char *name) {
        const Entry *e = node_find(n, name);

        return e && (!e->is_local || (e->dir && has_lower(e->dir)));
}

/* *ret of the lower entry at path; -ENOENT, or an error that is told. */
static int look_at(const Search *s, const char *path, struct stat *ret) {
        int r = lower_stat(s->scope->lower, path, ret);

        return r >= 0 || r == -ENOENT
                ? r
                : failure_set_errno(s->reterr, r, "cannot look at '/%s' in the lower layers", path);
}

/* If the lower has it. */
static int tell_new(const Search *s, Difference *d) {
        int r = look_at(s, d->lower, &d->st);

        if (r < 0)
                return r == -ENOENT ? 0 : r;
        d->kind = DIFFERENCE_NEW;
        return s->func(d, s->userdata);
}

static int find_new(int dfd, const char *name, unsigned char type, void *userdata) {
        Search *s = userdata;
        _cleanup_free_ char *path = NULL;
        Difference d = { .name = name };

        if (is_staging_name(name) || is_known(s->scope->node, name))
                return 0;
        d.lower = path = path_join(s->scope->node->lower, name);
        return path ? tell_new(s, &d) : -ENOMEM;
}

static int is_removed(const Search *s, const char *lower) {
        const Node *n = node_find_identity(s->scope->node);

        /* Somebody vouches for it; lower_stat() has said that it is not there. */
        if (s->scope->context->options.force) {
                struct stat st;
                int r = look_at(s, lower, &st);

                return r >= 0 ? 0 : r == -ENOENT ? 1 : r;
        }
        return lower_is_removed(s->scope->lower, lower, n->lower ?: "", n->lower_identity, s->reterr);
}

int difference_is_same_file(const DifferenceScope *s, const Difference *d) {
        _cleanup_free_ char *origin = NULL;
        ssize_t n = xattr_read_at(s->upper_fd, d->name, XATTR_ORIGIN, &origin);

        return n > 0 ? lower_is_origin(s->lower, d->lower, origin, (size_t) n) : -ENODATA;
}

/* Not with index=on, where the kernel goes by the handle, and not by the path (docs/overlayfs.md 9.4). */
bool difference_has_same_content(const DifferenceScope *s, const Difference *d) {
        struct stat st;

        return d->kind == DIFFERENCE_CHANGED && d->upper.type == DT_REG && S_ISREG(d->st.st_mode) &&
                fstatat(s->upper_fd, d->name, &st, AT_SYMLINK_NOFOLLOW) >= 0 &&
                digest_content(&st) == digest_content(&d->st) &&
                (s->context->overlay->index == TRI_NO || difference_is_same_file(s, d) > 0);
}

static bool has_other_xattrs(const Search *s, const Difference *d) {
        uint64_t now = d->entry->xattrs == 0 ? 0 : digest_xattrs(s->scope->lower->view_fd, d->lower);

        return now != 0 && now != d->entry->xattrs;
}

/* Where there is no digest of then: another file, or another size. Nobody asks for xattrs as long as the
 * change time says that they are the same; it also changes with the number of links, and with renames. */
static bool has_changed(const Search *s, const Difference *d) {
        const Entry *e = d->entry;

        if (e->base == 0)
                return (d->upper.class == UPPER_METACOPY && (uint64_t) d->st.st_size != d->upper.size) ||
                        difference_is_same_file(s->scope, d) == 0;
        if (digest_stat(&d->st) != e->base)
                return true;
        if (e->ctime == CTIME_OF_OLD_RECORD || e->ctime == digest_ctime(&d->st))
                return false;
        return has_other_xattrs(s, d) || difference_is_same_file(s->scope, d) == 0;
}

static int compare_entry(const Search *s, Difference *d) {
        int r = look_at(s, d->lower, &d->st);

        if (r == -ENOENT) {
                r = is_removed(s, d->lower);
                d->kind = DIFFERENCE_REMOVED;
                return r <= 0 ? r : s->func(d, s->userdata);
        }
        if (r < 0)
                return r;
        d->kind = DIFFERENCE_CHANGED;
        return has_changed(s, d) ? s->func(d, s->userdata) : 0;
}

/* It was renamed or moved here before the directory was finalized: its redirect names another lower file
 * than the one of its name, which there may never have been. */
static bool is_from_elsewhere(const Difference *d) {
        return upper_entry_has_absolute_redirect(&d->upper) && strcmp(d->upper.redirect + 1, d->lower) != 0;
}

/* A directory says by itself what became of it; here is asked whether something else took its place. */
static int visit_directory(const Search *s, Difference *d) {
        int r = look_at(s, d->lower, &d->st);

        if (r < 0 || S_ISDIR(d->st.st_mode))
                return r == -ENOENT ? 0 : r;
        d->kind = DIFFERENCE_CHANGED;
        d->is_locally_modified = d->upper.type != DT_DIR;
        return s->func(d, s->userdata);
}

/* A directory in the place of a file is somebody's, unless the lower has one as well by now. */
static int visit_made_directory(const Search *s, Difference *d) {
        int r = look_at(s, d->lower, &d->st);

        if (r < 0 || !S_ISDIR(d->st.st_mode))
                return r == -ENOENT ? 0 : r;
        d->kind = DIFFERENCE_NEW;
        return s->func(d, s->userdata);
}

static int visit_file(const Search *s, Difference *d) {
        if (d->entry->base == 0 && d->upper.class != UPPER_METACOPY)
                return 0; /* made here, perhaps: the record does not tell */
        d->is_locally_modified = entry_is_locally_modified(s->scope->upper_fd, d->name, d->entry, &d->upper);
        return compare_entry(s, d);
}

/* An entry that stands where it stood. One that was deleted, moved or replaced is its user's affair. */
static int visit_entry(const Search *s, const Entry *e) {
        _cleanup_free_ char *path = path_join(s->scope->node->lower, e->name);
        Difference d = { .name = e->name, .entry = e, .lower = path };
        int r;

        if (!path)
                return -ENOMEM;
        if (e->is_local || e->type == DT_WHT ||
            (e->type == DT_DIR && e->dir->lower && strcmp(e->dir->lower, path) != 0))
                return 0;
        r = upper_entry_read(s->scope->upper_fd, e->name, &d.upper);
        if (r < 0)
                return errno_is_gone(r) ? 0 : r;
        /* Whoever removed it was killed before the record said so. */
        if (d.upper.class == UPPER_MISSING && e->ctime == CTIME_BEING_REMOVED)
                r = tell_new(s, &d);
        else if (
                d.upper.class != UPPER_MISSING && d.upper.class != UPPER_WHITEOUT &&
                !is_from_elsewhere(&d)) {
                throttle_wait(s->scope->context->throttle, s->scope->context, 1);
                r = context_is_canceled(s->scope->context) ? -ECANCELED
                        : e->type == DT_DIR                ? visit_directory(s, &d)
                        : d.upper.type == DT_DIR           ? visit_made_directory(s, &d)
                                                           : visit_file(s, &d);
        }
        upper_entry_done(&d.upper);
        return r;
}

static int compare_directory(const Search *s) {
        const Node *n = s->scope->node;
        Difference d = { .kind = DIFFERENCE_ATTRIBUTES, .name = "", .lower = n->lower };
        uint64_t now = n->base == 0 ? 0 : digest_directory(s->scope->lower->view_fd, n->lower), here;

        if (now == n->base || now == 0)
                return 0;
        here = digest_directory(s->scope->upper_fd, "");
        if (here == now && n->base != BASELINE_IN_TRANSIT)
                return 0;
        d.is_locally_modified = n->base != BASELINE_IN_TRANSIT && here != n->base;
        return s->func(&d, s->userdata);
}

static int tell_missing(const Search *s) {
        int r = lower_is_replaced(s->scope->lower, s->scope->node->lower);

        if (r != 0)
                return r < 0 ? r : DIFFERENCES_REPLACED;
        r = is_removed(s, s->scope->node->lower);
        return r > 0 ? DIFFERENCES_GONE : r;
}

int difference_find(const DifferenceScope *scope, difference_func func, void *userdata, Failure *reterr) {
        Search s = { .scope = scope, .func = func, .userdata = userdata, .reterr = reterr };
        const Node *n = scope->node;
        _cleanup_close_ int fd = lower_open_dir(scope->lower, n->lower);
        int r = fd;

        if (errno_is_gone(fd)) {
                r = tell_missing(&s);
                if (r > 0)
                        return r;
                r = r < 0 ? r : -EAGAIN; /* there it is again */
        }
        if (r >= 0)
                r = dir_foreach(fd, find_new, &s);
        if (r >= 0)
                r = compare_directory(&s);
        ENTRY_FOREACH (n, e) {
                if (r < 0)
                        break;
                r = visit_entry(&s, e);
        }
        return r < 0
                ? failure_set_errno(reterr, r, "cannot compare with the lower directory '/%s'", n->lower)
                : 0;
}
