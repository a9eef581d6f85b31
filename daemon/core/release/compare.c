/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/release/compare.h"

#include <string.h>
#include <sys/file.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "base/str.h"
#include "core/context/throttle.h"
#include "core/lower/difference.h"
#include "core/record/recorded.h"
#include "core/release/refresh-cost.h"
#include "core/release/refresh-identity.h"

typedef struct Compare {
        Context *context;
        const char *path;
        const WorkHooks *hooks;
        Records *records;
        Lower lower;
        Finding *items;
        size_t n;
        PathList changed; /* paths of directories that are not as they were finalized, or were not before */
} Compare;

static void compare_done(Compare *c) {
        lower_done(&c->lower);
        findings_free(c->items, c->n);
        path_list_done(&c->changed);
        records_free(c->records);
}

typedef struct Count {
        unsigned n[_DIFFERENCE_KIND_MAX];
        char *example; /* a name, or "" */
        RefreshCost cost;
        const DifferenceScope *scope;
} Count;

static int count(const Difference *d, void *userdata) {
        Count *c = userdata;

        /* What a user has changed is the user's; a name that is gone below changes nothing for it. */
        if (d->kind != DIFFERENCE_NEW && d->is_locally_modified)
                return 0;
        c->n[d->kind]++;
        refresh_cost_add(&c->cost, refresh_measure(c->scope, d));
        if (!c->example)
                c->example = strdup(d->name);
        return c->example ? 0 : -ENOMEM;
}

static int keep_finding(Compare *c, const char *handle, DirectoryState state, char *reason) {
        Finding *f;

        if (!reason || !ARRAY_GROW(c->items, c->n))
                return -ENOMEM;
        f = c->items + c->n++;
        *f = (Finding){ .handle = strdup(handle), .state = state, .reason = strdup(reason) };
        return f->handle && f->reason ? 0 : -ENOMEM;
}

static char *describe(const Count *k, const Node *n) {
        if (k->n[DIFFERENCE_ATTRIBUTES] > 0)
                return str_format(
                        "the lower directory '/%s' has another owner, mode or other xattrs", n->lower);
        return str_format(
                "the lower directory '/%s' has %u new, %u removed, %u changed entries, e.g. '%s'", n->lower,
                k->n[DIFFERENCE_NEW], k->n[DIFFERENCE_REMOVED], k->n[DIFFERENCE_CHANGED], k->example);
}

/* Nobody takes that up by himself. */
static char *describe_much(const Compare *c, const Count *k, const Node *n, const char *path) {
        return str_format(
                "the lower directory '/%s' has %u new, %u removed, %u changed entries, e.g. '%s', and %llu "
                "bytes of data are to be copied, more than is done unasked (Data=, MinFreeSpace=): run "
                "'ovlfinctl refresh %s/%s'",
                n->lower, k->n[DIFFERENCE_NEW], k->n[DIFFERENCE_REMOVED], k->n[DIFFERENCE_CHANGED],
                k->example, (unsigned long long) k->cost.bytes, c->context->overlay->mount_point, path);
}

static char *describe_another(const Node *n) {
        return str_format(
                "the lower directory '/%s', or one that leads to it, is another one than before, with the "
                "same names: 'refresh' takes that over",
                n->lower);
}

/* Without lasting handles, numbers may be others after each mount. */
static bool is_another(const Compare *c, const Node *n) {
        _cleanup_free_ char *now = NULL;

        return c->lower.has_ctime && identity_is_another(&c->lower, n, &now);
}

static char *describe_missing(const Node *n, bool is_replaced) {
        return is_replaced ? str_format("'/%s' is no directory in the lower layers any more", n->lower)
                           : str_format("its lower directory '/%s' was removed", n->lower);
}

/* found: what difference_find() said. */
static int conclude(Compare *c, const Node *n, const char *path, int found, const Count *k) {
        const Finding *before = records_find_finding(c->records, n->new_handle);
        DirectoryState state = DIRECTORY_STALE;
        _cleanup_free_ char *reason = NULL;
        int r = 0;

        if (found != DIFFERENCES_FOUND) {
                state = found == DIFFERENCES_GONE ? DIRECTORY_GONE : DIRECTORY_STALE;
                reason = describe_missing(n, found == DIFFERENCES_REPLACED);
        } else if (k->example)
                reason = refresh_cost_is_too_much(&k->cost, c->context, path) ? describe_much(c, k, n, path)
                                                                              : describe(k, n);
        else if (is_another(c, n))
                reason = describe_another(n);
        else
                state = DIRECTORY_FINALIZED;
        if (state != DIRECTORY_FINALIZED)
                r = keep_finding(c, n->new_handle, state, reason);
        if (r >= 0 && (state != DIRECTORY_FINALIZED || before))
                r = path_list_add(&c->changed, path);
        return r;
}

static int compare_one(const Node *n, const char *path, int upper_fd, void *userdata) {
        Compare *c = userdata;
        const DifferenceScope scope = {
                .context = c->context, .lower = &c->lower, .node = n, .upper_fd = upper_fd
        };
        const Finding *before = records_find_finding(c->records, n->new_handle);
        _cleanup_failure_ Failure f = FAILURE_INIT;
        Count k = { .scope = &scope };
        int r;

        throttle_wait(c->context->throttle, c->context, 1);
        if (context_is_canceled(c->context))
                return -ECANCELED;
        r = difference_find(&scope, count, &k, &f);
        if (r < 0) {
                context_note(c->context, path, "%s", f.message ?: "cannot compare with the lower layers");
                r = before ? keep_finding(c, before->handle, before->state, before->reason) : 0;
        } else
                r = conclude(c, n, path, r, &k);
        free(k.example);
        return r;
}

/* Whether a record says of a directory what it said when that was compared. */
static bool is_as_compared(const Node *now, const Node *then) {
        if (!now || !then || now->base != then->base ||
            HASH_COUNT(now->entries) != HASH_COUNT(then->entries))
                return false;
        ENTRY_FOREACH (now, e) {
                const Entry *before = node_find(then, e->name);

                if (!before || before->base != e->base || before->xattrs != e->xattrs ||
                    before->ctime != e->ctime)
                        return false;
        }
        return true;
}

typedef struct Merge {
        Compare *c;
        const Records *now;
} Merge;

/* Findings of directories that were not looked at stay, and of those that a job has changed meanwhile. */
static int keep_others(const Node *n, const char *path, int upper_fd, void *userdata) {
        const Merge *m = userdata;
        const Finding *found = records_find_finding(m->now, n->new_handle);

        if (!found ||
            (path_startswith(path, m->c->path) &&
             is_as_compared(n, records_find(m->c->records, n->new_handle))))
                return 0;
        return keep_finding(m->c, found->handle, found->state, found->reason);
}

static void drop_outdated(const Merge *m) {
        Compare *c = m->c;

        for (size_t i = c->n; i-- > 0;) {
                Finding *f = c->items + i;

                if (is_as_compared(records_find(m->now, f->handle), records_find(c->records, f->handle)))
                        continue;
                free(f->handle);
                free(f->reason);
                *f = c->items[--c->n];
        }
}

static int report_changed(Compare *c) {
        _cleanup_(records_freep) Records *records = NULL;
        int r = c->changed.n > 0 ? records_load(c->context->records_fd, c->context->upper_fd, &records) : 0;

        for (size_t i = 0; r >= 0 && i < c->changed.n; i++) {
                _cleanup_(directory_report_done) DirectoryReport report = { 0 };

                if (audit_directory(c->context, records, c->changed.items[i], &report, NULL) >= 0)
                        r = c->hooks->report(&report, c->hooks->userdata);
        }
        return r;
}

/* Jobs run beside a comparison, and compare what they have changed themselves. */
static int write_findings(Compare *c) {
        _cleanup_close_ int lock_fd = open_dir_beneath(c->context->records_fd, "");
        _cleanup_(records_freep) Records *now = NULL;
        Merge m = { .c = c };
        int r = lock_fd;

        if (lock_fd >= 0 && flock(lock_fd, LOCK_EX) < 0)
                r = -errno;
        if (r >= 0)
                r = records_load(c->context->records_fd, c->context->upper_fd, &now);
        if (r < 0)
                return r;
        m.now = now;
        drop_outdated(&m);
        r = recorded_foreach(c->context->upper_fd, now, "", /* children_first= */ false, keep_others, &m);
        return r < 0 ? r : findings_write(c->context->records_fd, c->items, c->n);
}

int compare_run(Context *context, const char *path, const WorkHooks *hooks, Failure *reterr) {
        _cleanup_(compare_done)
                Compare c = { .context = context, .path = path, .hooks = hooks, .lower = LOWER_INIT };
        int r = context_load_records(context, &c.records, reterr);

        if (r >= 0)
                r = lower_open(context, &c.lower, reterr);
        if (r >= 0)
                r = recorded_foreach(
                        context->upper_fd, c.records, path, /* children_first= */ false, compare_one, &c);
        if (r >= 0)
                r = write_findings(&c);
        if (r >= 0)
                r = report_changed(&c);
        return r < 0
                ? failure_set_errno(reterr, r, "cannot compare '%s/%s'", context->overlay->mount_point, path)
                : 0;
}
