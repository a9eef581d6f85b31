/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The order of the steps of the mark method: prepare; then rounds of writing redirects, marking what is in
 * memory, reconfiguring, and looking what is left, until nothing stale is; then opaque. The steps themselves
 * are in the files that mark-internal.h lists. */

/* Why a round suffices. When mark_pins_set() returns, each entry of the directory that needs a lower layer
 * is marked: listed ones by the listing, renamed ones by their event, and what came from another directory
 * needs none, because the kernel gave it an absolute redirect then. When no mark is left after the
 * reconfigure, all of these inodes were forgotten; whatever is in memory now was read from the upper since.
 * If the upper still has an absolute redirect on everything (nothing had to be written again), that is what
 * was read, and the kernel never replaces it (docs/overlayfs.md 2.4). So nothing can write a relative or
 * wrong redirect from then on, whether the directory is opaque or not, and nobody has to watch it
 * afterwards. */
#include <string.h>
#include <sys/inotify.h>

#include "base/clock.h"
#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/mark/mark-internal.h"
#include "core/mount/reconfigure.h"
#include "core/record/manifest.h"
#include "core/upper/names.h"
#include "core/upper/observe.h"

/* Directories that share reconfigures; each holds a descriptor and a watch for as long. */
#define BATCH_DIRECTORIES 512
/* Each repetition means that an entry was renamed in the moment between mark and reconfigure. */
#define MAX_ROUNDS 10

/* Whether nothing is left to be cleared away. */
static bool mark_done(Mark *m) {
        int r = 0;

        batch_done(&m->batch);
        for (size_t i = 0; i < m->n; i++) {
                (void) fd_close(m->items[i].upper_fd);
                free(m->items[i].blocked);
        }
        free(m->items);
        if (m->staging.dir.fd >= 0)
                r = staging_remove(&m->staging);
        staging_done(&m->staging);
        tree_free(m->tree);
        lower_done(&m->lower);
        blockers_done(&m->users);
        (void) fd_close(m->inotify_fd);
        (void) fd_close(m->fanotify_fd);
        return r >= 0;
}

/* The node for path, with those above. */
static int make_node(Tree *t, const char *path, Node **ret) {
        _cleanup_free_ char *copy = strdup(path);
        char *rest = copy, *name;
        Node *n = t->root;

        if (!copy)
                return -ENOMEM;
        while ((name = strsep(&rest, "/"))) {
                Entry *e = node_find(n, name);
                int r = e ? 0 : node_add(n, name, DT_DIR, &e);

                if (r < 0)
                        return r;
                n = e->dir;
        }
        *ret = n;
        return 0;
}

static bool is_parent(const char *parent, const char *path) {
        const char *below = path_startswith(path, parent);

        return below && *below && !strchr(below, '/');
}

/* Among those before it. */
static size_t find_parent(const Mark *m, const char *path) {
        for (size_t i = m->n; i-- > 0;)
                if (is_parent(m->items[i].path, path))
                        return i;
        return SIZE_MAX;
}

static int make_record(Mark *m, char *const *paths, size_t n) {
        char id[STAGING_ID_LENGTH + 1];
        int r = staging_new_id(id);

        if (r >= 0)
                r = tree_new("", id, /* is_undo= */ false, &m->tree);
        if (r < 0)
                return r;
        m->tree->usec = now_realtime_usec();
        r = file_handle_at(m->context->upper_fd, "", &m->tree->upper);
        m->items = r < 0 ? NULL : calloc(n, sizeof(MarkDirectory));
        if (r >= 0 && !m->items)
                return -ENOMEM;
        for (; r >= 0 && m->n < n; m->n++) {
                MarkDirectory *d = m->items + m->n;

                *d = (MarkDirectory){ .mark = m,
                                      .path = paths[m->n],
                                      .parent = find_parent(m, paths[m->n]),
                                      .upper_fd = -EBADF,
                                      .watch = -1 };
                r = make_node(m->tree, d->path, &d->node);
        }
        return r;
}

static int mark_begin(Mark *m, char *const *paths, size_t n, Failure *reterr) {
        int r = make_record(m, paths, n);

        if (r >= 0) {
                m->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
                r = m->inotify_fd < 0 ? -errno : batch_begin(&m->batch);
        }
        if (r >= 0)
                r = staging_create(m->context, &m->staging, reterr);
        if (r >= 0)
                (void) lower_open_for_record(m->context, &m->lower);
        return r < 0 ? failure_set_errno(reterr, r, "cannot begin to mark '%s'", paths[0]) : 0;
}

static int submit_children(Mark *m, size_t parent);

/* A directory is copied up by its parent's turn: of two copy-ups in one directory at a time, one may leave
 * the directory with the time of the other. */
static void prepare_task(void *task, unsigned thread) {
        _cleanup_failure_ Failure f = FAILURE_INIT;
        MarkDirectory *d = task;
        Mark *m = d->mark;
        int r;

        if (batch_should_stop(&m->batch))
                return;
        r = mark_prepare(m, d, &f);
        if (r >= 0)
                r = submit_children(m, (size_t) (d - m->items));
        if (r < 0) {
                (void) failure_set_errno(&f, r, "cannot prepare to mark");
                batch_fail(&m->batch, &f);
        }
}

static int submit_children(Mark *m, size_t parent) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < m->n; i++)
                if (m->items[i].parent == parent)
                        r = pool_submit(m->batch.pool, prepare_task, m->items + i);
        return r;
}

static int prepare_all(Mark *m, Failure *reterr) {
        int k = submit_children(m, SIZE_MAX), r = batch_wait(&m->batch, JOB_RUNNING);

        if (r == RESULT_HUNG)
                return r;
        if (context_is_canceled(m->context))
                return failure_set(reterr, FAILURE_CANCELED, ECANCELED, "canceled");
        r = batch_outcome(&m->batch, reterr);
        return r >= 0 && k < 0 ? failure_set_errno(reterr, k, "cannot prepare to mark") : r;
}

/* Looks through the directory and writes what is missing: *ret_n, 0 says that all was as it should be. */
static int write_directory(const Mark *m, MarkDirectory *d, unsigned *ret_n) {
        char failed[NAME_MAX + 1];
        int r = mark_write_redirects(d->upper_fd, d->node->lower, d->is_marked, ret_n, failed);

        if (r >= 0) {
                r = mark_write_own(d->upper_fd, d->node->lower);
                *ret_n += r > 0;
        }
        return r < 0 ? mark_error(
                               m, CALL_SET_ATTRIBUTES, r, d, d->upper_fd, failed,
                               "write the redirect (trusted.overlay.redirect) of")
                     : 0;
}

static int write_moved(Mark *m, MarkDirectory *d, const char *name) {
        int r = mark_write_redirect(d->upper_fd, name, d->node->lower, d->is_marked);

        d->needs_another_round |= r > 0;
        if (r < 0)
                r = mark_error(
                        m, CALL_SET_ATTRIBUTES, r, d, d->upper_fd, name,
                        "write the redirect (trusted.overlay.redirect) of");
        return r < 0 && !d->blocked ? r : 0;
}

static int check_moved(Mark *m, MarkDirectory *d, const char *name) {
        int r = write_moved(m, d, name);

        return r < 0 || d->blocked ? r : mark_pins_check_moved(m, d, name);
}

/* Of those that are not ready yet. Where something was to be written, needs_another_round is set. */
static int write_all(Mark *m, moved_func func, Failure *reterr) {
        int r = 0;

        for (size_t i = 0; i < m->n; i++) {
                MarkDirectory *d = m->items + i;
                unsigned n = 0;

                if (d->is_out || d->is_ready)
                        continue;
                r = write_directory(m, d, &n);
                d->needs_another_round |= n > 0;
                if (r < 0 && !d->blocked)
                        return failure_set_errno(
                                reterr, r, "cannot write redirects in '%s/%s'", m->context->overlay->upper,
                                d->path);
        }
        r = mark_follow(m, func);
        return r < 0 ? failure_set_errno(reterr, r, "cannot follow renames in the upper layer") : 0;
}

static size_t count_waiting(const Mark *m) {
        size_t n = 0;

        for (size_t i = 0; i < m->n; i++)
                n += !m->items[i].is_out && !m->items[i].is_ready;
        return n;
}

/* What was written so far is read by whatever is loaded from now on. */
static void begin_round(Mark *m) {
        for (size_t i = 0; i < m->n; i++)
                m->items[i].needs_another_round = false;
}

static void note_ready(Mark *m) {
        for (size_t i = 0; i < m->n; i++)
                m->items[i].is_ready |= !m->items[i].is_out && !m->items[i].needs_another_round;
}

static int settle_rounds(Mark *m, Failure *reterr) {
        int r = 0;

        for (unsigned i = 0; r >= 0 && i < MAX_ROUNDS && count_waiting(m) > 0; i++) {
                if (context_is_canceled(m->context))
                        return failure_set(reterr, FAILURE_CANCELED, ECANCELED, "canceled");
                r = write_all(m, write_moved, reterr);
                begin_round(m);
                if (r >= 0)
                        r = mark_pins_set(m, reterr);
                if (r >= 0)
                        r = mark_pins_check(m, reterr);
                if (r >= 0)
                        r = write_all(m, check_moved, reterr);
                if (r >= 0)
                        note_ready(m);
        }
        for (size_t i = 0; i < m->n; i++)
                if (!m->items[i].is_out && !m->items[i].is_ready)
                        mark_block(m->items + i, DIRECTORY_PENDING, "its entries are renamed all the time");
        return r;
}

/* What an undo has to know, and every redirect, is on disk before the first directory is opaque. */
static int make_durable(Mark *m, Failure *reterr) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < m->n; i++)
                if (m->items[i].is_ready)
                        r = file_handle_at(m->items[i].upper_fd, "", &m->items[i].node->new_handle);
        if (r >= 0)
                r = manifest_write(m->tree, m->context->records_fd, m->tree->id);
        if (r < 0)
                return failure_set_errno(
                        reterr, r, "cannot write the record of what '%s/%s' holds",
                        m->context->overlay->mount_point, m->tree->path);
        return context_make_durable(m->context, reterr);
}

static int write_opaque(Mark *m, Failure *reterr) {
        for (size_t i = 0; i < m->n; i++) {
                MarkDirectory *d = m->items + i;
                int r = d->is_ready && !d->is_out ? mark_write_opaque(d->upper_fd) : 0;

                if (r < 0)
                        r = mark_error(
                                m, CALL_SET_ATTRIBUTES, r, d, d->upper_fd, NULL,
                                "write the mark (trusted.overlay.opaque) of");
                if (r < 0 && !d->blocked)
                        return failure_set_errno(
                                reterr, r, "cannot mark '%s/%s'", m->context->overlay->upper, d->path);
                d->is_marked = d->is_ready && !d->is_out;
        }
        return 0;
}

static bool is_effective(Mark *m, MarkDirectory *d) {
        _cleanup_close_ int fd = open_dir_beneath(m->context->root_fd, d->path);

        return fd < 0 || observe_directory(fd) != OBSERVED_MERGED;
}

/* Who came in the last moment leaves soon, mostly. Whoever stays leaves the directory marked, and pending.
 */
static int take_effect(Mark *m, Failure *reterr) {
        size_t n_waiting = 1;
        int r = 0;

        for (unsigned i = 0; r >= 0 && n_waiting > 0 && i < MAX_ROUNDS; i++) {
                r = remount_reconfigure(m->context->root_fd, reterr);
                n_waiting = 0;
                for (size_t k = 0; k < m->n; k++)
                        n_waiting += m->items[k].is_marked && !is_effective(m, m->items + k);
        }
        return r;
}

/* By what was said above there is nothing to find; it would be found here. */
static int look_again(Mark *m, Failure *reterr) {
        unsigned total = 0;

        for (size_t i = 0; i < m->n; i++) {
                unsigned n = 0;
                int r = m->items[i].is_marked ? write_directory(m, m->items + i, &n) : 0;

                if (r < 0)
                        return failure_set_errno(
                                reterr, r, "cannot look through '%s/%s'", m->context->overlay->upper,
                                m->items[i].path);
                total += n;
        }
        return total > 0 ? remount_reconfigure(m->context->root_fd, reterr) : 0;
}

static bool any_is_ready(const Mark *m) {
        for (size_t i = 0; i < m->n; i++)
                if (m->items[i].is_ready && !m->items[i].is_out)
                        return true;
        return false;
}

static int apply(Mark *m, Failure *reterr) {
        int r;

        if (!any_is_ready(m))
                return 0;
        context_progress(
                m->context, JOB_APPLYING, atomic_load(&m->batch.n_done), atomic_load(&m->batch.n_done));
        r = make_durable(m, reterr);
        if (r >= 0)
                r = write_opaque(m, reterr);
        if (r >= 0)
                r = take_effect(m, reterr);
        return r < 0 ? r : look_again(m, reterr);
}

static int report(const Mark *m, WorkResult *ret) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < m->n; i++) {
                const MarkDirectory *d = m->items + i;

                ret->n_directories += d->is_marked;
                if (d->blocked)
                        r = work_result_block(ret, d->path, d->blocked_state, d->blocked_error, d->blocked);
        }
        ret->n_entries += atomic_load(&m->batch.n_done);
        return r;
}

static int run_batch(Mark *m, char *const *paths, size_t n, WorkResult *ret, Failure *reterr) {
        int r = mark_begin(m, paths, n, reterr), k;

        if (r >= 0)
                r = prepare_all(m, reterr);
        if (r == RESULT_HUNG)
                return r;
        if (r >= 0)
                r = settle_rounds(m, reterr);
        if (r >= 0)
                r = apply(m, reterr);
        k = report(m, ret);
        return r < 0 ? r : k;
}

int mark_run(Context *context, const PathList *paths, WorkResult *ret, Failure *reterr) {
        for (size_t done = 0; done < paths->n; done += BATCH_DIRECTORIES) {
                size_t left = paths->n - done, batch = left < BATCH_DIRECTORIES ? left : BATCH_DIRECTORIES;
                Mark *m = calloc(1, sizeof(Mark));
                int r;

                if (!m)
                        return -ENOMEM;
                m->context = context;
                batch_init(&m->batch, context);
                m->staging = STAGING_INIT;
                m->lower = LOWER_INIT;
                m->inotify_fd = m->fanotify_fd = -EBADF;
                r = run_batch(m, paths->items + done, batch, ret, reterr);
                if (r == RESULT_HUNG) /* threads hang with it */
                        return r;
                ret->needs_survey |= !mark_done(m);
                free(m);
                if (r < 0)
                        return r;
        }
        return 0;
}
