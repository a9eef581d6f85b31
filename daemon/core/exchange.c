/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The order of things: build, settle, exchange, reconcile. The parts are in the files that exchange-internal.h lists. */
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "base/path-util.h"
#include "core/exchange-internal.h"
#include "core/layer.h"
#include "core/observe.h"
#include "core/redirect-max.h"
#include "core/standing.h"
#include "core/times.h"

/* A directory in which names change for so long without a pause is not one that programs search libraries in. */
#define NEVER_QUIET_USEC (60 * USEC_PER_SEC)
/* New builds after something that only a new build can take up. */
#define MAX_ATTEMPTS 10
/* How long threads may take to come back after a cancel before the process leaves without them. */
#define CANCEL_PATIENCE_USEC (3 * USEC_PER_SEC)
/* See scheduling_grace(). */
#define GRACE_USEC (50 * USEC_PER_MSEC)
#define GRACE_PER_TASK_USEC (25 * USEC_PER_MSEC)
/* Between attempts of an undo whose directories somebody still holds as what they were before. */
#define STALE_PAUSE_MSEC 50

void exchange_result_done(ExchangeResult *r) {
        for (size_t i = 0; i < r->n_blocked; i++) {
                free(r->blocked[i].path);
                free(r->blocked[i].reason);
        }
        free(r->blocked);
        for (size_t i = 0; i < r->n_children; i++)
                free(r->children[i]);
        free(r->children);
        *r = (ExchangeResult) { 0 };
}

int exchange_result_block(ExchangeResult *r, const char *path, DirectoryState state, const char *reason) {
        Blocked *grown = reallocarray(r->blocked, r->n_blocked + 1, sizeof(Blocked)), *b;

        if (!grown)
                return -ENOMEM;
        r->blocked = grown;
        b = r->blocked + r->n_blocked;
        *b = (Blocked) { .path = strdup(path), .state = state, .reason = strdup(reason) };
        if (!b->path || !b->reason) {
                free(b->path);
                free(b->reason);
                return -ENOMEM;
        }
        r->n_blocked++;
        return 0;
}

char *exchange_node_path(const Exchange *x, const Node *n, const char *name) {
        _cleanup_free_ char *below = node_path(n), *directory = below ? path_join(x->tree->path, below) : NULL;

        return directory ? path_join(directory, name ?: "") : NULL;
}

void exchange_fail(Exchange *x, int r, const Node *n, const char *name, const char *what) {
        _cleanup_free_ char *path = exchange_node_path(x, n, name);

        (void) pthread_mutex_lock(&x->tree->lock);
        (void) failure_set_errno(&x->failure, r, "cannot %s '%s/%s'", what, x->site->overlay->mount_point,
                                 path ?: name);
        (void) pthread_mutex_unlock(&x->tree->lock);
        atomic_store(&x->has_failed, true);
}

bool exchange_should_stop(const Exchange *x) {
        return atomic_load(&x->has_failed) || site_is_canceled(x->site);
}

int exchange_outcome(Exchange *x, Failure *reterr) {
        int error = x->failure.error;

        if (atomic_load(&x->has_failed)) {
                failure_move(reterr, &x->failure);
                return error > 0 ? -error : -EIO;
        }
        if (site_is_canceled(x->site))
                return failure_set(reterr, FAILURE_CANCELED, ECANCELED, "canceled; '%s/%s' is as it was",
                                   x->site->overlay->mount_point, x->tree->path);
        return 0;
}

void node_block(Node *n, DirectoryState state, const char *format, ...) {
        char *text = NULL;
        va_list ap;

        va_start(ap, format);
        if (vasprintf(&text, format, ap) < 0)
                text = NULL;
        va_end(ap);
        (void) pthread_mutex_lock(&n->tree->lock);
        if (!n->blocked) {
                n->blocked = text;
                n->blocked_state = state;
                text = NULL;
        }
        (void) pthread_mutex_unlock(&n->tree->lock);
        free(text);
}

void node_recheck(Node *n) {
        (void) pthread_mutex_lock(&n->tree->lock);
        n->changes.all = true;
        (void) pthread_mutex_unlock(&n->tree->lock);
}

int exchange_wait(Exchange *x, JobState state) {
        uint64_t canceled_usec = 0;

        while (pool_wait(x->pool, 100) == 0) {
                site_progress(x->site, state, atomic_load(&x->n_done), atomic_load(&x->n_total));
                if (!site_is_canceled(x->site))
                        continue;
                canceled_usec = canceled_usec ?: now_monotonic_usec();
                if (now_monotonic_usec() - canceled_usec > CANCEL_PATIENCE_USEC)
                        return -ESHUTDOWN;
        }
        site_progress(x->site, state, atomic_load(&x->n_done), atomic_load(&x->n_total));
        return exchange_should_stop(x) ? -ECANCELED : 0;
}

Exchange *exchange_new(Site *site) {
        Exchange *x = calloc(1, sizeof(Exchange));

        if (!x)
                return NULL;
        x->site = site;
        x->staging = STAGING_INIT;
        x->parent_fd = x->parent_upper_fd = x->old_fd = x->old_upper_fd = x->new_fd = x->new_upper_fd = -EBADF;
        x->inotify_fd = -EBADF;
        return x;
}

Exchange *exchange_free(Exchange *x) {
        if (!x)
                return NULL;
        pool_free(x->pool);
        tree_free(x->tree);
        staging_done(&x->staging);
        (void) fd_close(x->parent_fd);
        (void) fd_close(x->parent_upper_fd);
        (void) fd_close(x->old_fd);
        (void) fd_close(x->old_upper_fd);
        (void) fd_close(x->new_fd);
        (void) fd_close(x->new_upper_fd);
        (void) fd_close(x->inotify_fd);
        failure_done(&x->failure);
        free(x->name);
        free(x->beside_name);
        free(x);
        return NULL;
}

int exchange_watch_fd(const Exchange *x) {
        return x->inotify_fd;
}

const char *exchange_path(const Exchange *x) {
        return x->tree->path;
}

static int open_parent(Exchange *x, const char *path) {
        _cleanup_free_ char *parent = path_dirname(path);

        x->name = strdup(path_basename(path));
        if (!parent || !x->name)
                return -ENOMEM;
        x->parent_fd = open_dir_beneath(x->site->root_fd, parent);
        if (x->parent_fd < 0)
                return x->parent_fd;
        x->old_fd = open_dir_beneath(x->parent_fd, x->name);
        return x->old_fd < 0 ? x->old_fd : 0;
}

/* Brings the directory to the upper, where its inode identifies it. */
static int open_upper(Exchange *x, const char *path) {
        _cleanup_free_ char *parent = path_dirname(path);
        struct stat st;

        if (!parent)
                return -ENOMEM;
        if (fstat(x->old_fd, &st) < 0 ||
            futimens(x->old_fd, (struct timespec[2]) { st.st_atim, { .tv_nsec = UTIME_OMIT } }) < 0)
                return -errno;
        x->parent_upper_fd = open_dir_beneath(x->site->upper_fd, parent);
        if (x->parent_upper_fd < 0)
                return x->parent_upper_fd;
        x->old_upper_fd = open_dir_beneath(x->parent_upper_fd, x->name);
        return x->old_upper_fd < 0 ? x->old_upper_fd : 0;
}

static int find_root_lower(Exchange *x, const char *path) {
        Node *root = x->tree->root;
        bool in_upper;
        int r;

        r = upper_lower_path(x->site->upper_fd, path, &root->lower, &in_upper);
        root->is_merged = r >= 0 && root->lower;
        return r;
}

static int exchange_open(Exchange *x, const char *path, bool is_undo, Failure *reterr) {
        int r;

        r = open_parent(x, path);
        if (r == -EXDEV)
                return failure_set(reterr, FAILURE_PRECONDITION, EBUSY,
                                   "'%s/%s' is a mount point; unmount it, or finalize directories below",
                                   x->site->overlay->mount_point, path);
        if (r >= 0)
                r = open_upper(x, path);
        if (r >= 0)
                r = staging_create(x->site, x->site->options.n_threads, &x->staging, reterr);
        if (r >= 0)
                r = tree_new(path, x->staging.id, is_undo, &x->tree);
        if (r >= 0)
                r = find_root_lower(x, path);
        if (r >= 0 && asprintf(&x->beside_name, OLD_TREE_PREFIX "%s", x->staging.id) < 0) {
                x->beside_name = NULL;
                r = -ENOMEM;
        }
        if (r >= 0)
                r = watch_open(x);
        if (r >= 0)
                r = pool_new(x->site->options.n_threads, &x->pool);
        if (r >= 0)
                return 0;
        return failure_set_errno(reterr, r, "cannot open '%s/%s'", x->site->overlay->mount_point, path);
}

static int collect_blocked(Node *n, void *userdata) {
        Exchange *x = userdata;
        _cleanup_free_ char *path = NULL;

        if (!n->blocked)
                return 0;
        path = exchange_node_path(x, n, NULL);
        return path ? exchange_result_block(x->result, path, (DirectoryState) n->blocked_state, n->blocked) : -ENOMEM;
}

static bool holds_blocked(const Node *n) {
        Entry *e, *next;

        if (n->blocked)
                return true;
        HASH_ITER(hh, n->entries, e, next) {
                if (e->dir && holds_blocked(e->dir))
                        return true;
        }
        return false;
}

static int add_child(Exchange *x, const Node *n) {
        ExchangeResult *r = x->result;
        char **grown = reallocarray(r->children, r->n_children + 1, sizeof(char *));

        if (!grown)
                return -ENOMEM;
        r->children = grown;
        r->children[r->n_children] = exchange_node_path(x, n, NULL);
        return r->children[r->n_children] ? (r->n_children++, 0) : -ENOMEM;
}

/* The largest subtrees that hold nothing blocked. */
static int collect_children(Node *n, void *userdata) {
        Exchange *x = userdata;
        bool parent_holds = n->parent && holds_blocked(n->parent);

        return parent_holds && !holds_blocked(n) ? add_child(x, n) : 0;
}

/* 0 when nothing is blocked, else -EUCLEAN with the result filled. */
static int check_blocked(Exchange *x) {
        int r;

        if (!holds_blocked(x->tree->root))
                return 0;
        r = tree_foreach(x->tree, collect_blocked, x);
        if (r >= 0)
                r = tree_foreach(x->tree, collect_children, x);
        return r < 0 ? r : -EUCLEAN;
}

static int step_watch(Exchange *x, Failure *reterr) {
        int r = build_scan(x);

        x->has_built = true;
        if (r >= 0)
                build_restore_times(x);
        if (r >= 0 && x->has_moved)
                return -EAGAIN;
        return r < 0 ? r : check_blocked(x);
}

static int step_copy_up(Exchange *x, Failure *reterr) {
        int r = build_place(x);

        if (r < 0)
                return r;
        build_restore_times(x);
        return check_blocked(x);
}

static int step_verify(Exchange *x, Failure *reterr) {
        return observe_new_tree(x->new_fd, x->tree->is_undo);
}

typedef struct Youngest {
        Exchange *x;
        uint64_t mtime_usec;
} Youngest;

static int find_youngest(Node *n, void *userdata) {
        Youngest *y = userdata;
        _cleanup_free_ char *path = node_path(n);
        _cleanup_close_ int fd = path ? open_dir_beneath(y->x->old_upper_fd, path) : -ENOMEM;
        struct stat st;

        if (fd >= 0 && fstat(fd, &st) >= 0) {
                uint64_t t = (uint64_t) st.st_mtim.tv_sec * USEC_PER_SEC + (uint64_t) st.st_mtim.tv_nsec / NSEC_PER_USEC;
                if (t > y->mtime_usec)
                        y->mtime_usec = t;
        }
        return 0;
}

/* When names changed last, before we watched: the youngest modification time says. One from the future says nothing. */
static void find_last_change(Exchange *x) {
        uint64_t now = now_realtime_usec(), monotonic = now_monotonic_usec();
        Youngest y = { .x = x };

        (void) tree_foreach(x->tree, find_youngest, &y);
        x->changed_usec = y.mtime_usec < now && now - y.mtime_usec < monotonic ? monotonic - (now - y.mtime_usec) : 0;
}

/* Writes what the exchange will be repaired from. The first time for good, then so that a killed process finds it: after a
 * lost machine the older one leads to the same end, since every step of reconciling is idempotent. */
int exchange_save(Exchange *x, bool sync) {
        int r;

        if (!sync) {
                r = manifest_write(x->tree, x->staging.dir_fd, STAGING_SNAPSHOT_LAST ".new", /* sync= */ false);
                if (r >= 0 && renameat(x->staging.dir_fd, STAGING_SNAPSHOT_LAST ".new", x->staging.dir_fd,
                                       STAGING_SNAPSHOT_LAST) < 0)
                        r = -errno;
        } else
                r = manifest_write(x->tree, x->staging.dir_fd, STAGING_SNAPSHOT, /* sync= */ true);
        if (r >= 0)
                x->is_manifest_stale = false;
        return r;
}

static int save_first(Exchange *x) {
        int r;

        x->tree->usec = now_realtime_usec();
        if (!x->tree->is_undo) {
                r = manifest_write(x->tree, x->site->records_fd, x->tree->id, /* sync= */ true);
                if (r < 0)
                        return r;
        }
        r = exchange_save(x, /* sync= */ true);
        x->has_manifest = r >= 0;
        return r;
}

/* One round towards "in line and nothing in the queue". 1: there. 0: once more. */
static int settle_once(Exchange *x) {
        int r = watch_drain(x);

        if (r < 0)
                return r;
        if (x->has_moved)
                return -EAGAIN;
        r = sync_dirty(x);
        if (r >= 0)
                r = check_blocked(x);
        if (r >= 0)
                r = build_dress(x);
        if (r < 0)
                return r;
        if (!x->has_manifest)
                r = save_first(x);
        else if (x->is_manifest_stale)
                r = exchange_save(x, /* sync= */ false);
        if (r < 0)
                return r;
        r = watch_drain(x);
        return r < 0 ? r : r == 0 && !tree_resume_deferred(x->tree);
}

static int wait_quiet(Exchange *x, uint64_t deadline, Failure *reterr) {
        uint64_t quiet = x->site->options.quiet_usec;

        for (;;) {
                uint64_t now = now_monotonic_usec();
                int r;

                if (site_is_canceled(x->site))
                        return exchange_outcome(x, reterr);
                if (now < deadline && now - x->changed_usec >= quiet)
                        return 0;
                if (now >= deadline)
                        return failure_set(
                                reterr, FAILURE_BUSY, EBUSY,
                                "'%s/%s' is never quiet: names in it changed within QuietSec= all the time; try again "
                                "later or lower QuietSec=",
                                x->site->overlay->mount_point, x->tree->path);
                site_progress(x->site, JOB_WAITING, atomic_load(&x->n_done), atomic_load(&x->n_total));
                r = watch_wait(x, 1 + (int) ((quiet - (now - x->changed_usec)) / USEC_PER_MSEC));
                if (r < 0)
                        return r;
                if (r > 0)
                        return 0; /* take it up first */
        }
}

static int wait_standing(Exchange *x, const char *path, bool *ret_standing, Failure *reterr) {
        for (;;) {
                Standing standing;
                int r = standing_find(path, NULL, &standing);

                *ret_standing = r >= 0 && standing.n > 0;
                if (!*ret_standing || !x->site->options.wait_for_standing)
                        return 0;
                if (site_is_canceled(x->site))
                        return exchange_outcome(x, reterr);
                site_progress(x->site, JOB_WAITING, atomic_load(&x->n_done), atomic_load(&x->n_total));
                (void) watch_wait(x, 500);
                r = settle_once(x);
                if (r < 0)
                        return r;
        }
}

/* Until the new tree is in line, was so for QuietSec=, and nothing is queued. */
static int settle(Exchange *x, Failure *reterr) {
        uint64_t deadline = now_monotonic_usec() + NEVER_QUIET_USEC + 2 * x->site->options.quiet_usec;
        int r;

        for (;;) {
                r = settle_once(x);
                if (r < 0)
                        return r;
                if (r > 0 && now_monotonic_usec() - x->changed_usec >= x->site->options.quiet_usec)
                        return 0;
                r = wait_quiet(x, deadline, reterr);
                if (r < 0)
                        return r;
        }
}

static int upper_inode(int dfd, const char *name, uint64_t *ret) {
        struct stat st;

        if (fstatat(dfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        *ret = st.st_ino;
        return 0;
}

/* The old tree goes beside its directory, where "../x" from within finds what it did before: staging is closed to all but
 * root, and has other neighbours (facts E.3). */
int exchange_move_beside(Exchange *x) {
        if (x->is_beside)
                return 0;
        if (renameat2(x->staging.dir_fd, STAGING_TREE, x->parent_fd, x->beside_name, RENAME_NOREPLACE) < 0)
                return -errno;
        x->is_beside = true;
        return 0;
}

static int swap_names(Exchange *x) {
        int r;

        r = renameat2(x->staging.dir_fd, STAGING_TREE, x->parent_fd, x->name, RENAME_EXCHANGE) < 0 ? -errno : 0;
        if (r != -EXDEV || redirect_max_raise(&x->site->redirect_max_before) <= 0)
                return r;
        /* The kernel writes a redirect for the old tree, and found it too long. */
        return renameat2(x->staging.dir_fd, STAGING_TREE, x->parent_fd, x->name, RENAME_EXCHANGE) < 0 ? -errno : 0;
}

static bool is_in_place(Exchange *x, bool swapped) {
        uint64_t at, staged;
        const Node *root = x->tree->root;

        return upper_inode(x->parent_upper_fd, x->name, &at) >= 0 &&
                upper_inode(x->staging.upper_fd, STAGING_TREE, &staged) >= 0 &&
                at == (swapped ? root->new_inode : root->old_inode) &&
                staged == (swapped ? root->old_inode : root->new_inode);
}

/* The exchange, and the proof that it took away what we had copied. Should somebody have put another directory there in
 * the last moment, that one goes back; if that fails too, staging_remove() keeps it. */
static int swap_checked(Exchange *x) {
        const char *const no_names[] = { NULL };
        TimesGuard guard;
        int r;

        if (!is_in_place(x, /* swapped= */ false))
                return -EAGAIN;
        /* xfs touches a directory whose ".." changes (xfs_cross_rename). */
        times_guard_begin(&guard, x->new_fd);
        r = swap_names(x);
        times_guard_end(&guard, no_names);
        if (r < 0)
                return r == -ENOENT ? -EAGAIN : r;
        if (!is_in_place(x, /* swapped= */ true)) {
                r = swap_names(x);
                return r < 0 ? r : -EAGAIN;
        }
        x->phase = PHASE_EXCHANGED;
        x->staging.is_published = true;
        return x->has_standing ? exchange_move_beside(x) : 0;
}

/* How long a task that had found its way into the old tree just before the exchange may wait for a processor until it goes
 * on there: until then the old tree must stay whole. The scheduler gives each runnable task its turn. */
static uint64_t scheduling_grace(void) {
        long processors = sysconf(_SC_NPROCESSORS_ONLN);
        unsigned runnable = 1;
        FILE *f = fopen("/proc/loadavg", "re");

        if (f) {
                if (fscanf(f, "%*f %*f %*f %u", &runnable) != 1)
                        runnable = 1;
                (void) fclose(f);
        }
        return GRACE_USEC + GRACE_PER_TASK_USEC * runnable / (uint64_t) (processors > 0 ? processors : 1);
}

/* What comes late is replayed at once. What comes later still is the business of whoever retires the old tree. */
static int aftermath(Exchange *x) {
        uint64_t start = now_monotonic_usec(), grace = scheduling_grace();

        for (;;) {
                uint64_t passed;
                int r;

                (void) tree_resume_deferred(x->tree);
                r = watch_drain(x);
                if (r >= 0)
                        r = reconcile_dirty(x);
                passed = now_monotonic_usec() - start;
                if (r < 0 || passed >= grace)
                        return r;
                r = watch_wait(x, 1 + (int) ((grace - passed) / USEC_PER_MSEC));
                if (r < 0)
                        return r;
        }
}

/* Once more, because mounts come and go; a later one is caught by the kernel or by the removal of the old tree. */
static int check_mounts_again(Exchange *x, Failure *reterr) {
        int r = site_load_inner_mounts(x->site);

        if (r < 0)
                return r;
        if (site_has_inner_mount(x->site, x->tree->path))
                return failure_set(reterr, FAILURE_BUSY, EBUSY, "something was mounted in '%s/%s' meanwhile; try again",
                                   x->site->overlay->mount_point, x->tree->path);
        return 0;
}

/* Between the last look at the queue and the lock that the exchange takes lies the only window (facts E.6). */
static int try_exchange(Exchange *x, Failure *reterr) {
        int r = check_mounts_again(x, reterr);

        if (r >= 0)
                r = watch_drain(x);
        if (r != 0)
                return r < 0 ? r : 1;
        return swap_checked(x);
}

/* Between the last look and the exchange, and until what came late is replayed, every delay is somebody's wrong answer:
 * this thread goes before those who wait for it. Returns the priority to go back to. */
static int hurry(void) {
        int before = getpriority(PRIO_PROCESS, 0);

        (void) setpriority(PRIO_PROCESS, 0, -20);
        return before;
}

static void hurry_no_more(int before) {
        (void) setpriority(PRIO_PROCESS, 0, before);
}

static int exchange_now(Exchange *x, Failure *reterr) {
        const char *names[] = { x->name, x->beside_name, NULL };
        uint64_t give_up = now_monotonic_usec() + NEVER_QUIET_USEC;
        int r, priority = hurry();
        TimesGuard guard;

        times_guard_begin(&guard, x->parent_fd);
        while ((r = try_exchange(x, reterr)) == 1) {
                r = now_monotonic_usec() > give_up ? -EBUSY : settle(x, reterr);
                if (r < 0)
                        break;
        }
        if (r >= 0)
                r = aftermath(x);
        times_guard_end(&guard, names);
        hurry_no_more(priority);
        return r;
}

static int step_settle(Exchange *x, Failure *reterr) {
        int r, priority = hurry();

        find_last_change(x);
        r = settle(x, reterr);
        hurry_no_more(priority);
        return r;
}

static int step_stand(Exchange *x, Failure *reterr) {
        _cleanup_free_ char *path = path_join(x->site->overlay->mount_point, x->tree->path);

        if (!path)
                return -ENOMEM;
        return wait_standing(x, path, &x->has_standing, reterr);
}

static int step_exchange(Exchange *x, Failure *reterr) {
        int r;

        site_progress(x->site, JOB_APPLYING, atomic_load(&x->n_done), atomic_load(&x->n_total));
        r = exchange_now(x, reterr);
        if (r >= 0 && x->is_manifest_stale)
                r = exchange_save(x, /* sync= */ false);
        /* Directories that came after the record was written. */
        if (r >= 0 && x->is_record_stale && !x->tree->is_undo)
                r = manifest_write(x->tree, x->site->records_fd, x->tree->id, /* sync= */ true);
        return r;
}

const ExchangeStep exchange_steps[] = {
        { "watch", "watch and list every directory, make its counterpart in staging", step_watch },
        { "copy-up", "copy up the metadata of every entry and link it into the new tree", step_copy_up },
        { "verify", "see how the running mount treats the new tree", step_verify },
        { "settle", "wait until no name has changed for QuietSec=, follow what does", step_settle },
        { "stand", "see who stands in the directory: wait, or keep its old tree beside it", step_stand },
        { "exchange", "exchange old and new in one rename, take over what came late", step_exchange },
        { "retire", "remove the old tree when nobody stands in it", NULL },
};
const size_t n_exchange_steps = ELEMENTSOF(exchange_steps);

static void abandon(Exchange *x) {
        if (x->phase >= PHASE_EXCHANGED)
                return;
        if (x->tree && x->inotify_fd >= 0 && !x->has_manifest)
                build_restore_times(x);
        if (x->has_manifest && !x->tree->is_undo)
                (void) unlinkat(x->site->records_fd, x->tree->id, 0);
        (void) staging_remove(&x->staging);
}

static int run_once(Exchange *x, const char *path, bool is_undo, Failure *reterr) {
        int r = exchange_open(x, path, is_undo, reterr);

        for (size_t i = 0; r >= 0 && i < n_exchange_steps; i++)
                r = exchange_steps[i].func ? exchange_steps[i].func(x, reterr) : 0;
        return r;
}

static int explain(Exchange *x, int r, Failure *reterr) {
        int k = x->tree ? exchange_outcome(x, reterr) : 0;

        if (k < 0)
                return k;
        if (r == -EUCLEAN)
                return r;
        return failure_set_errno(reterr, r, "cannot exchange '%s/%s'", x->site->overlay->mount_point,
                                 x->tree ? x->tree->path : "");
}

/* An inode in memory stands for a directory as it was before it was finalized (facts E.7): mostly a listing that is about to
 * end, so trying again helps. */
static int set_stale(Exchange *x, Failure *reterr, bool try_again) {
        failure_done(&x->failure);
        atomic_store(&x->has_failed, false);
        if (!try_again)
                return failure_set(reterr, FAILURE_BUSY, EBUSY,
                                   "something still holds what '%s/%s' was before it was finalized; try again when those "
                                   "who used it then have left",
                                   x->site->overlay->mount_point, x->tree ? x->tree->path : "");
        (void) poll(NULL, 0, STALE_PAUSE_MSEC);
        return -EAGAIN;
}

int exchange_run(Site *site, const char *path, bool is_undo, const Records *records, ExchangeResult *ret,
                 Exchange **ret_kept, Failure *reterr) {
        for (unsigned attempt = 0;; attempt++) {
                _cleanup_(exchange_freep) Exchange *x = exchange_new(site);
                int r;

                if (!x)
                        return -ENOMEM;
                x->records = records;
                x->result = ret;
                r = run_once(x, path, is_undo, reterr);
                redirect_max_restore(site->redirect_max_before);
                site->redirect_max_before = 0;
                if (r == -ESHUTDOWN) { /* threads hang in the kernel: nothing of theirs may be freed */
                        TAKE_PTR(x);
                        return r;
                }
                if (r >= 0 || x->phase >= PHASE_EXCHANGED) {
                        x->pool = pool_free(x->pool);
                        ret->n_entries += atomic_load(&x->n_total);
                        ret->n_directories += x->tree->n_nodes;
                        x->result = NULL;
                        *ret_kept = TAKE_PTR(x);
                        return r < 0 ? failure_set_errno(reterr, r, "cannot reconcile '%s'", path) : 0;
                }
                abandon(x);
                if (is_undo && (r == -ESTALE || (atomic_load(&x->has_failed) && x->failure.error == ESTALE))) {
                        r = set_stale(x, reterr, attempt < MAX_ATTEMPTS);
                        if (r != -EAGAIN)
                                return r;
                }
                if (r == -EAGAIN && attempt < MAX_ATTEMPTS && !exchange_should_stop(x) &&
                    (!reterr || reterr->kind == FAILURE_NONE))
                        continue;
                return explain(x, r, reterr);
        }
}
