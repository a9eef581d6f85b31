/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/difference.h"

#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/digest.h"
#include "core/staging.h"
#include "core/throttle.h"

bool entry_is_own(int upper_fd, const char *name, const Entry *recorded, const UpperEntry *e) {
        struct stat st;

        if (!recorded || recorded->base == 0)
                return e->class != UPPER_METACOPY;
        if (fstatat(upper_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || digest_stat(&st) != recorded->base)
                return true;
        return recorded->xattrs != 0 && digest_xattrs(upper_fd, name) != recorded->xattrs;
}

typedef struct Search {
        const DifferenceScope *scope;
        difference_func func;
        void *userdata;
        Failure *reterr;
} Search;

static int find_new(int dfd, const char *name, unsigned char type, void *userdata) {
        Search *s = userdata;
        _cleanup_free_ char *path = NULL;
        Difference d = { .kind = DIFFERENCE_NEW, .name = name };
        int r;

        if (is_staging_name(name) || node_find(s->scope->node, name))
                return 0;
        d.lower = path = path_join(s->scope->node->lower, name);
        if (!path)
                return -ENOMEM;
        r = lower_stat(s->scope->lower, path, &d.st);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        return s->func(&d, s->userdata);
}

static int is_removed(const Search *s, const char *lower) {
        const Tree *t = s->scope->node->tree;

        /* Somebody vouches for it; lower_stat() has said that it is not there. */
        if (s->scope->site->options.force) {
                struct stat st;
                int r = lower_stat(s->scope->lower, lower, &st);

                return r >= 0 ? 0 : r == -ENOENT ? 1 : r;
        }
        return lower_is_removed(s->scope->lower, lower, t->root->lower ?: "", t->lower_identity, s->reterr);
}

/* Where there is no digest of then: another file, or another size. */
static bool has_changed(const Search *s, const Difference *d) {
        _cleanup_free_ char *origin = NULL;
        ssize_t n;

        if (d->entry->base != 0)
                return digest_stat(&d->st) != d->entry->base;
        if (d->upper.class == UPPER_METACOPY && (uint64_t) d->st.st_size != d->upper.size)
                return true;
        n = xattr_read_at(s->scope->upper_fd, d->name, XATTR_ORIGIN, &origin);
        return n > 0 && lower_is_origin(s->scope->lower, d->lower, origin, (size_t) n) == 0;
}

static int compare_entry(const Search *s, Difference *d) {
        int r = lower_stat(s->scope->lower, d->lower, &d->st);

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

/* An entry that stands where it stood. One that was deleted, moved or replaced is its user's affair. */
static int visit_entry(const Search *s, const Entry *e) {
        _cleanup_free_ char *path = NULL;
        Difference d = { .name = e->name, .entry = e };
        int r;

        if (e->is_local || e->type == DT_DIR || e->type == DT_WHT)
                return 0;
        r = upper_entry_read(s->scope->upper_fd, e->name, &d.upper);
        if (r < 0)
                return errno_is_gone(r) ? 0 : r;
        d.lower = path = path_join(s->scope->node->lower, e->name);
        if (!path)
                r = -ENOMEM;
        else if (
                d.upper.class != UPPER_MISSING && d.upper.class != UPPER_WHITEOUT &&
                d.upper.type != DT_DIR && !is_from_elsewhere(&d)) {
                if (e->base == 0 && d.upper.class != UPPER_METACOPY) {
                        upper_entry_done(&d.upper); /* made here, perhaps: the record does not tell */
                        return 0;
                }
                d.is_own = entry_is_own(s->scope->upper_fd, e->name, e, &d.upper);
                throttle_wait(s->scope->site->throttle, s->scope->site, 1);
                r = site_is_canceled(s->scope->site) ? -ECANCELED : compare_entry(s, &d);
        }
        upper_entry_done(&d.upper);
        return r;
}

int difference_find(const DifferenceScope *scope, difference_func func, void *userdata, Failure *reterr) {
        Search s = { .scope = scope, .func = func, .userdata = userdata, .reterr = reterr };
        const Node *n = scope->node;
        _cleanup_close_ int fd = lower_open_dir(scope->lower, n->lower);
        Entry *e, *next;
        int r = fd;

        if (errno_is_gone(fd)) {
                r = is_removed(&s, n->lower);
                if (r != 0) /* 0: there is something else than a directory */
                        return r;
        }
        if (r >= 0 && fd >= 0)
                r = dir_foreach(fd, find_new, &s);
        HASH_ITER(hh, n->entries, e, next) {
                if (r < 0)
                        break;
                r = visit_entry(&s, e);
        }
        return r < 0
                ? failure_set_errno(reterr, r, "cannot compare with the lower directory '/%s'", n->lower)
                : 0;
}
