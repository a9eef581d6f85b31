/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/audit.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/layer.h"
#include "core/observe.h"
#include "core/staging.h"

void directory_report_done(DirectoryReport *r) {
        free(r->reason);
        free(r->lower_path);
        *r = (DirectoryReport) { 0 };
}

/* Removed or replaced while we look, as users do. */
static bool is_gone(int r) {
        return r == -ENOENT || r == -ENOTDIR || r == -ESTALE || r == -ELOOP;
}

typedef struct Census {
        uint64_t n_entries, n_merge_children;
        char *unresolvable; /* a merge child without an absolute redirect */
        char *lower;        /* directory the first redirect leads to */
} Census;

static void census_done(Census *c) {
        free(c->unresolvable);
        free(c->lower);
}

static int note_redirect(Census *c, const char *name, const UpperEntry *e) {
        if (!upper_entry_has_absolute_redirect(e)) {
                if (!c->unresolvable)
                        c->unresolvable = strdup(name);
        } else if (!c->lower)
                c->lower = path_dirname(e->redirect + 1);
        return 0;
}

static int count_entry(int dfd, const char *name, unsigned char type, void *userdata) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        Census *c = userdata;
        int r;

        if (is_staging_name(name))
                return 0;
        r = upper_entry_read(dfd, name, &e);
        if (r < 0 || e.class == UPPER_MISSING || e.class == UPPER_WHITEOUT)
                return r < 0 ? r : 0;
        c->n_entries++;
        if (!upper_entry_is_merge_child(&e))
                return 0;
        c->n_merge_children++;
        return note_redirect(c, name, &e);
}

/* Whether the upper directory at path answers by itself: opaque, or below one that does without a redirect of its own. */
static int is_pure(const Site *site, const char *path) {
        _cleanup_free_ char *lower = NULL;
        bool in_upper;
        int r = upper_lower_path(site->upper_fd, path, &lower, &in_upper);

        return r < 0 ? r : in_upper && !lower;
}

static int set_reason(DirectoryReport *r, DirectoryState state, const char *reason) {
        r->state = state;
        free(r->reason);
        r->reason = reason ? strdup(reason) : NULL;
        return reason && !r->reason ? -ENOMEM : 0;
}

static int judge_pure(int fd, const Node *recorded, Census *c, DirectoryReport *r) {
        int observed;

        r->n_merge_children = c->n_merge_children;
        if (recorded && recorded->lower)
                r->lower_path = strdup(recorded->lower);
        else
                r->lower_path = TAKE_PTR(c->lower);
        if (recorded)
                r->finalized_usec = recorded->tree->usec;
        if (c->unresolvable) {
                r->state = DIRECTORY_BROKEN;
                r->scheme = "redirect";
                return asprintf(&r->reason, "'%s' needs a lower layer and has no absolute redirect to it",
                                c->unresolvable) < 0
                        ? -ENOMEM
                        : 0;
        }
        if (!r->lower_path && c->n_merge_children == 0)
                return set_reason(r, DIRECTORY_LOCAL, NULL);
        r->scheme = "redirect";
        observed = observe_directory(fd);
        if (observed < 0)
                return observed;
        if (observed != OBSERVED_PURE)
                return set_reason(r, DIRECTORY_PENDING,
                                  "it is marked, but the running mount still has it cached as merged; it takes effect "
                                  "with the next mount, or once nobody uses it");
        return set_reason(r, DIRECTORY_FINALIZED, NULL);
}

typedef struct Coverage {
        int upper_fd;
        uint64_t n_entries;
        bool is_covered;
} Coverage;

static int cover_entry(int dfd, const char *name, unsigned char type, void *userdata) {
        Coverage *c = userdata;
        struct stat st;

        c->n_entries++;
        if (c->upper_fd < 0 || fstatat(c->upper_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                c->is_covered = false;
        return 0;
}

static int judge_merged(const Site *site, int fd, const char *path, DirectoryReport *r) {
        _cleanup_close_ int upper_fd = open_dir_beneath(site->upper_fd, path);
        Coverage c = { .upper_fd = upper_fd, .is_covered = true };
        bool in_upper;
        int k;

        k = upper_lower_path(site->upper_fd, path, &r->lower_path, &in_upper);
        if (k >= 0)
                k = dir_foreach(fd, cover_entry, &c);
        r->n_entries = c.n_entries;
        r->state = c.is_covered && upper_fd >= 0 ? DIRECTORY_COPIED_UP : DIRECTORY_MERGED;
        return k;
}

static int audit_pure(const Site *site, const Records *records, int fd, const char *path, DirectoryReport *ret) {
        _cleanup_close_ int upper_fd = open_dir_beneath(site->upper_fd, path);
        _cleanup_(census_done) Census c = { 0 };
        _cleanup_free_ char *handle = NULL;
        int r;

        if (upper_fd < 0)
                return upper_fd;
        r = file_handle_at(upper_fd, "", &handle);
        if (r >= 0)
                r = dir_foreach(upper_fd, count_entry, &c);
        ret->n_entries = c.n_entries;
        return r < 0 ? r : judge_pure(fd, records_find(records, handle), &c, ret);
}

int audit_directory(const Site *site, const Records *records, const char *path, DirectoryReport *ret, Failure *reterr) {
        _cleanup_(directory_report_done) DirectoryReport report = { .path = path };
        _cleanup_close_ int fd = open_dir_beneath(site->root_fd, path);
        int r = fd;

        if (fd == -EXDEV)
                return failure_set(reterr, FAILURE_NOT_MANAGED, EXDEV, "'%s/%s' belongs to another file system",
                                   site->overlay->mount_point, path);
        if (fd >= 0 && path[0] == '\0')
                r = set_reason(&report, DIRECTORY_EXCLUDED, "overlayfs always merges the root of an overlay");
        else if (fd >= 0) {
                r = is_pure(site, path);
                if (r >= 0)
                        r = r > 0 ? audit_pure(site, records, fd, path, &report)
                                  : judge_merged(site, fd, path, &report);
        }
        if (r < 0)
                return failure_set_errno(reterr, r, "cannot look at '%s/%s'", site->overlay->mount_point, path);
        *ret = report;
        report = (DirectoryReport) { 0 };
        return 0;
}

typedef struct Walk {
        const Site *site;
        const Records *records;
        report_func func;
        void *userdata;
        bool only_topmost;
        const char *path; /* of the directory being listed */
        bool is_pure;
} Walk;

static int walk(Walk *w, const char *path, bool is_pure);

static int walk_child(int dfd, const char *name, unsigned char type, void *userdata) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        _cleanup_free_ char *path = NULL;
        const Walk *w = userdata;
        Walk below = *w;
        int r;

        if (type != DT_DIR || is_staging_name(name))
                return 0;
        r = upper_entry_read(dfd, name, &e);
        if (r < 0)
                return r;
        path = path_join(w->path, name);
        if (!path)
                return -ENOMEM;
        return walk(&below, path, e.class == UPPER_OPAQUE || (e.class == UPPER_PLAIN && w->is_pure));
}

static int report_pure(Walk *w, const char *path, bool *ret_stop) {
        _cleanup_(directory_report_done) DirectoryReport r = { 0 };
        _cleanup_failure_ Failure f = FAILURE_INIT;
        int k = audit_directory(w->site, w->records, path, &r, &f);

        if (k < 0)
                return is_gone(k) || k == -EXDEV ? 0 : k; /* or something is mounted upon it */
        if (r.state == DIRECTORY_LOCAL)
                return 0;
        *ret_stop = w->only_topmost;
        return w->func(&r, w->userdata);
}

static int walk(Walk *w, const char *path, bool is_pure) {
        _cleanup_close_ int fd = open_dir_beneath(w->site->upper_fd, path);
        bool stop = false;
        int r = 0;

        if (fd < 0)
                return is_gone(fd) ? 0 : fd;
        if (is_pure)
                r = report_pure(w, path, &stop);
        if (r < 0 || stop)
                return r;
        w->path = path;
        w->is_pure = is_pure;
        r = dir_foreach(fd, walk_child, w);
        return is_gone(r) ? 0 : r;
}

int audit_tree(const Site *site, const Records *records, const char *path, report_func func, void *userdata) {
        Walk w = { .site = site, .records = records, .func = func, .userdata = userdata };
        int r = is_pure(site, path);

        return r < 0 ? (r == -ENOENT ? 0 : r) : walk(&w, path, r);
}

typedef struct Found {
        char **items;
        size_t n;
} Found;

static int add_found(const DirectoryReport *r, void *userdata) {
        Found *f = userdata;
        char **grown = reallocarray(f->items, f->n + 1, sizeof(char *));

        if (!grown)
                return -ENOMEM;
        f->items = grown;
        f->items[f->n] = strdup(r->path);
        return f->items[f->n] ? (f->n++, 0) : -ENOMEM;
}

int audit_find_finalized(const Site *site, const Records *records, const char *path, char ***ret, size_t *ret_n) {
        Found found = { 0 };
        Walk w = { .site = site, .records = records, .func = add_found, .userdata = &found, .only_topmost = true };
        int r = is_pure(site, path);

        if (r >= 0)
                r = walk(&w, path, r);
        if (r < 0 && r != -ENOENT) {
                for (size_t i = 0; i < found.n; i++)
                        free(found.items[i]);
                free(found.items);
                return r;
        }
        *ret = found.items;
        *ret_n = found.n;
        return 0;
}

int audit_guess_lower(int upper_fd, char **ret) {
        _cleanup_(census_done) Census c = { 0 };
        int r = dir_foreach(upper_fd, count_entry, &c);

        if (r < 0)
                return r;
        if (!c.lower)
                return -ENODATA;
        *ret = TAKE_PTR(c.lower);
        return 0;
}

typedef struct MergedSearch {
        const Site *site;
        const char *path;
        char ***items;
        size_t *n;
} MergedSearch;

static int add_merged(MergedSearch *m, const char *path) {
        char **grown = reallocarray(*m->items, *m->n + 1, sizeof(char *));

        if (!grown)
                return -ENOMEM;
        *m->items = grown;
        grown[*m->n] = strdup(path);
        return grown[*m->n] ? ((*m->n)++, 0) : -ENOMEM;
}

static int search_merged(int dfd, const char *name, unsigned char type, void *userdata) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        _cleanup_free_ char *path = NULL;
        MergedSearch *m = userdata;
        int r;

        if (type != DT_DIR || is_staging_name(name))
                return 0;
        path = path_join(m->path, name);
        if (!path)
                return -ENOMEM;
        r = upper_entry_read(dfd, name, &e);
        if (r < 0)
                return r;
        return e.class == UPPER_REDIRECT ? add_merged(m, path) : audit_find_merged(m->site, path, m->items, m->n);
}

int audit_find_merged(const Site *site, const char *path, char ***items, size_t *n) {
        _cleanup_close_ int fd = open_dir_beneath(site->upper_fd, path);
        MergedSearch m = { .site = site, .path = path, .items = items, .n = n };

        int r = fd < 0 ? fd : dir_foreach(fd, search_merged, &m);

        return is_gone(r) ? 0 : r;
}
