/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From a request to core, and from what core finds to records. It loads the overlay, opens the context, sets
 * the options, calls the one function of core that the verb stands for, and decides nothing else. A job
 * runs only where the preconditions hold; questions do not ask for them. */
#include <fcntl.h>
#include <string.h>

#include "base/path-util.h"
#include "base/strv.h"
#include "core/check/check.h"
#include "core/context/error-scope.h"
#include "core/context/pool.h"
#include "core/job/data.h"
#include "core/mount/reconfigure.h"
#include "core/upper/layer.h"
#include "core/users/blockers.h"
#include "core/users/held.h"
#include "worker/worker.h"

static int send_directory(const DirectoryReport *d, void *userdata) {
        WireRecord r = {
                .kind = WIRE_DIRECTORY,
                .state = (uint32_t) d->state,
                .entries_total = d->n_entries,
                .merge_children = d->n_merge_children,
                .usec = d->finalized_usec,
        };

        /* "/" is the root of the lower layers, which "" as "unknown" must not be taken for. */
        wire_set(r.path, d->path);
        if (d->lower_path) {
                r.lower_path[0] = '/';
                wire_copy(r.lower_path + 1, sizeof(r.lower_path) - 1, d->lower_path);
        }
        wire_set(r.text, d->reason);
        wire_set(r.name, d->scheme);
        return wire_send(WORKER_FD, &r);
}

static int send_step(const PlanStep *s, void *userdata) {
        WireRecord r = {
                .kind = WIRE_STEP,
                .entries_total = s->n_entries,
                .entries_done = s->n_inodes,
                .bytes = s->bytes,
        };

        wire_set(r.name, s->name);
        wire_set(r.path, s->path);
        wire_set(r.text, s->text);
        return wire_send(WORKER_FD, &r);
}

static int send_check(const Check *c) {
        WireRecord r = { .kind = WIRE_CHECK, .state = (uint32_t) c->level };

        wire_set(r.name, c->id);
        wire_set(r.text, c->text);
        wire_set(r.lower_path, c->advice);
        return wire_send(WORKER_FD, &r);
}

static int send_checks(const CheckList *l) {
        int r = 0;

        for (size_t i = 0; i < l->n && r >= 0; i++)
                r = send_check(l->items + i);
        return r;
}

static uint64_t number(const Worker *w, const char *key, uint64_t missing) {
        const char *v = wire_request_get(&w->request, key);

        return v ? strtoull(v, NULL, 10) : missing;
}

static Floor floor_of(const Worker *w, const char *key) {
        const char *v = wire_request_get(&w->request, key);
        Floor f = { 0 };
        char *end;

        if (v) {
                f.value = strtoull(v, &end, 10);
                f.is_percent = *end == '%';
        }
        return f;
}

static int set_restraints(Worker *w) {
        ContextOptions *o = &w->context.options;
        _cleanup_free_ char *buffer = NULL;
        _cleanup_free_ char **exclude = worker_split(w, WIRE_EXCLUDE, &buffer);
        int r;

        if (!exclude)
                return -ENOMEM;
        o->min_free_space = floor_of(w, WIRE_MIN_FREE_SPACE);
        o->min_free_inodes = floor_of(w, WIRE_MIN_FREE_INODES);
        o->max_entries = number(w, WIRE_MAX_ENTRIES, UINT64_MAX);
        o->refresh_max_bytes = number(w, WIRE_REFRESH_BYTES, UINT64_MAX);
        r = globs_new(exclude, &o->exclude);
        if (r < 0)
                return r;
        return throttle_new(
                o->n_threads, worker_asks_for(w, WIRE_ADAPT), number(w, WIRE_RATE, UINT64_MAX),
                worker_asks_for(w, WIRE_BACKGROUND), &w->context.throttle);
}

static int set_options(Worker *w) {
        ContextOptions *o = &w->context.options;
        StandingPolicy standing = standing_from_string(wire_request_get(&w->request, WIRE_STANDING));
        const char *hard_links = wire_request_get(&w->request, WIRE_HARD_LINKS);
        Method method = method_from_string(wire_request_get(&w->request, WIRE_METHOD));
        uint64_t n = number(w, WIRE_WORKERS, o->n_threads);

        o->quiet_usec = number(w, WIRE_QUIET_USEC, o->quiet_usec);
        o->n_threads = n < 1 ? 1 : n > POOL_THREADS_MAX ? POOL_THREADS_MAX : (unsigned) n;
        o->standing = standing < 0 ? STANDING_AUTO : standing;
        o->is_unasked = worker_asks_for(w, WIRE_BACKGROUND);
        if (o->is_unasked && o->standing == STANDING_KEEP)
                o->standing = STANDING_AUTO; /* that is for who vouches for those who stand there */
        o->is_asked = worker_asks_for(w, WIRE_ASKED) || worker_asks_for(w, WIRE_OFFLINE);
        o->break_hard_links = hard_links && strcmp(hard_links, "break") == 0;
        o->force = worker_asks_for(w, WIRE_FORCE);
        o->is_private = worker_asks_for(w, WIRE_OFFLINE);
        o->method = method < 0 ? METHOD_AUTO : method;
        o->depth = (uint32_t) number(w, WIRE_DEPTH, DEPTH_INFINITE);
        o->want_parents = worker_asks_for(w, WIRE_PARENTS);
        return set_restraints(w);
}

static int check_preconditions(const Worker *w, bool report, Failure *reterr) {
        CheckList l = { 0 };
        int r = overlay_check(w->overlay, &l);

        if (r < 0)
                return failure_set_errno(reterr, r, "cannot check '%s'", w->overlay->mount_point);
        r = report ? send_checks(&l) : check_list_to_failure(&l, w->overlay, reterr);
        check_list_done(&l);
        return r;
}

/* A process that cannot end keeps nobody waiting for the end of its output. */
static void close_output(void) {
        int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

        for (int i = STDIN_FILENO; fd >= 0 && i <= STDERR_FILENO; i++)
                (void) dup2(fd, i);
        (void) fd_close(fd);
}

/* What asks the lower layers comes last: they may not answer. */
static int check(Worker *w, Failure *reterr) {
        int r = check_preconditions(w, /* report= */ true, reterr);
        Check lower = { 0 };

        if (r < 0 || !w->overlay->upper)
                return r;
        r = overlay_check_lower(TAKE_PTR(w->overlay), &lower);
        if (r > 0)
                close_output();
        if (r >= 0)
                r = send_check(&lower);
        free(lower.text);
        free(lower.advice);
        return r < 0 ? failure_set_errno(reterr, r, "cannot check the lower layers") : 0;
}

static int inspect(Worker *w, const char *path, Failure *reterr) {
        _cleanup_(directory_report_done) DirectoryReport report = { 0 };
        _cleanup_(records_freep) Records *records = NULL;
        int r = context_load_records(&w->context, &records, reterr);

        if (r >= 0)
                r = audit_directory(&w->context, records, path, &report, reterr);
        return r < 0 ? r : send_directory(&report, NULL);
}

static int send_blocker(const Blocker *b) {
        WireRecord r = {
                .kind = WIRE_BLOCKER,
                .state = (uint32_t) b->kind,
                .entries_total = (uint64_t) b->pid,
                .errors = b->is_blocking,
                .error = b->path ? 0 : ENODATA,
        };

        wire_set(r.name, b->command);
        wire_set(r.path, b->path ?: "");
        wire_set(r.lower_path, b->where ?: "");
        return wire_send(WORKER_FD, &r);
}

/* Wherever it lies: the ids are random. */
static bool is_in_old_tree(const char *path, const char *ids) {
        char id[64];
        int n;

        for (; ids && sscanf(ids, "%63s%n", id, &n) == 1; ids += n)
                if (strstr(path, id))
                        return true;
        return false;
}

/* Without the overlay, which may hang. */
static int open_records(const Worker *w) {
        const char *state = wire_request_get(&w->request, WIRE_STATE_DIR),
                   *name = wire_request_get(&w->request, WIRE_OVERLAY);
        char path[PATH_MAX];

        (void) snprintf(path, sizeof(path), "%s/records/%s", state ?: "", name ?: "");
        return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* What was opened at path or below before that was finalized. */
static bool was_below(HeldTrees *trees, const char *opened, const char *path) {
        _cleanup_free_ char *before = NULL, *lower = NULL;

        return held_resolve(trees, opened, &before, &lower) > 0 && path_startswith(before, path);
}

/* A layer above holds what is below as well, and one that cannot be told may. */
static bool concerns(const Blocker *b, const char *path, const char *ids, HeldTrees *trees) {
        if (path[0] == '\0')
                return true;
        if (b->kind == BLOCKER_LAYER && (!b->path || path_startswith(path, b->path)))
                return true;
        return b->path &&
                (path_startswith(b->path, path) || is_in_old_tree(b->path, ids) ||
                 was_below(trees, b->path, path));
}

static int list_blockers(const Worker *w, const char *path, Failure *reterr) {
        const char *ids = wire_request_get(&w->request, WIRE_OLD_TREES);
        HeldTrees trees = { .records_fd = open_records(w) };
        Blockers b = { 0 };
        int r = blockers_find(w->overlay, /* proc= */ NULL, /* below= */ NULL, &b);

        if (r < 0)
                return failure_set_errno(
                        reterr, r, "cannot look for who uses '%s'", w->overlay->mount_point);
        for (size_t i = 0; i < b.n && r >= 0; i++)
                if (concerns(b.items + i, path, ids, &trees))
                        r = send_blocker(b.items + i);
        blockers_done(&b);
        held_trees_done(&trees);
        (void) fd_close(trees.records_fd);
        return r;
}

static int load_overlay(Worker *w, Failure *reterr) {
        const char *mount_point = wire_request_get(&w->request, WIRE_MOUNT_POINT);
        const char *lower = wire_request_get(&w->request, WIRE_LOWER_DIR);
        OverlayLayers layers = {
                .upper = (char *) wire_request_get(&w->request, WIRE_UPPER_DIR),
                .work = (char *) wire_request_get(&w->request, WIRE_WORK_DIR),
        };
        _cleanup_strv_free_ char **data = NULL;
        int r;

        if (!mount_point)
                return failure_set(reterr, FAILURE_INVALID, EINVAL, "no mount point was given");
        if (lower) {
                r = overlay_split_lowerdir(lower, &layers.lower, &data);
                if (r < 0)
                        return failure_set_errno(reterr, r, "cannot read LowerDir=%s", lower);
        }
        r = overlay_load(NULL, mount_point, &layers, &w->overlay, reterr);
        (void) strv_free(layers.lower);
        return r;
}

static int load_offline(Worker *w, Failure *reterr) {
        const char *upper = wire_request_get(&w->request, WIRE_UPPER_DIR),
                   *lower = wire_request_get(&w->request, WIRE_LOWER_DIR),
                   *state_dir = wire_request_get(&w->request, WIRE_STATE_DIR);
        int r;

        if (!upper || !lower || !state_dir)
                return failure_set(
                        reterr, FAILURE_INVALID, EINVAL, "upper and lower layers are to be given");
        r = offline_mount(upper, lower, &w->offline, reterr);
        if (r < 0)
                return r;
        r = offline_records_name(state_dir, upper, &w->name);
        if (r < 0)
                return failure_set_errno(reterr, r, "cannot read the records in '%s'", state_dir);
        return overlay_load(NULL, w->offline.mount_point, &(OverlayLayers){ 0 }, &w->overlay, reterr);
}

static int ignore_report(const DirectoryReport *d, void *userdata) {
        return 0;
}

/* No daemon looks after it: what a crash left is put in order here. */
static int survey_offline(Worker *w, Failure *reterr) {
        const WorkHooks hooks = { .report = ignore_report, .kept = &w->kept };
        uint64_t n_left;

        return work_survey(&w->context, &hooks, &n_left, reterr);
}

static int find_mark(int dfd, const char *name, unsigned char type, const char *path, void *userdata) {
        _cleanup_(upper_entry_done) UpperEntry e = { 0 };
        int r = upper_entry_read(dfd, name, &e);

        return r < 0 ? 0 : upper_entry_is_merge_child(&e) ? -EEXIST : 0;
}

/* What was finalized under other options is broken under these: that is more than a precondition. */
static int say_marks_are_ignored(const Worker *w, int r, Failure *reterr) {
        const Overlay *o = w->overlay;
        _cleanup_failure_ Failure cause = FAILURE_INIT;

        if ((o->metacopy != TRI_NO && o->follows_redirects) ||
            audit_upper(&w->context, "", find_mark, NULL) != -EEXIST)
                return r;
        failure_move(&cause, reterr);
        return failure_set(
                reterr, FAILURE_PRECONDITION, EUCLEAN,
                "ENTRIES OF '%s' CANNOT BE READ as it is mounted: its upper layer '%s' has files and "
                "directories that need metacopy=on,redirect_dir=on (files give errors, directories lack "
                "what "
                "is in the lower layers). Mount it with these options; to do without, first undo everything "
                "under them: 'ovlfinctl unfinalize %s' (%s)",
                o->mount_point, o->upper, o->mount_point, cause.message ?: "no precondition fails");
}

static int unfinalize(Worker *w, const char *path, const WorkHooks *hooks, Failure *reterr) {
        bool want_reset = worker_asks_for(w, WIRE_RESET);
        int r = want_reset ? worker_prepare_reset(w, path, hooks, reterr) : 0;

        if (r >= 0)
                r = work_unfinalize(&w->context, path, hooks, &w->counts, reterr);
        return r < 0 || !want_reset ? r : worker_reset(w, path, reterr);
}

static int run_job(Worker *w, JobType type, const char *path, Failure *reterr) {
        const WorkHooks hooks = { .report = send_directory, .step = send_step, .kept = &w->kept };
        bool is_undo = type == JOB_UNFINALIZE;
        uint64_t max_bytes;
        int r = check_preconditions(w, /* report= */ false, reterr);

        if (r >= 0 && worker_asks_for(w, WIRE_OFFLINE))
                r = survey_offline(w, reterr);
        if (r < 0)
                return type == JOB_SURVEY ? say_marks_are_ignored(w, r, reterr) : r;
        if (type == JOB_VERIFY)
                return worker_verify(w, path, reterr);
        if (type == JOB_COMPARE)
                return worker_compare(w, path, &hooks, reterr);
        if (type == JOB_REFRESH)
                return worker_refresh(w, path, &hooks, reterr);
        if (type == JOB_PRUNE)
                return worker_prune(w, path, &hooks, reterr);
        if (type == JOB_SURVEY)
                return work_survey(&w->context, &hooks, &w->counts.n_excluded, reterr);
        if (worker_asks_for(w, WIRE_DRY_RUN))
                return work_plan(&w->context, path, is_undo, &hooks, reterr);
        if (is_undo)
                return unfinalize(w, path, &hooks, reterr);
        r = work_finalize(&w->context, path, &hooks, &w->counts, reterr);
        max_bytes = number(w, WIRE_DATA_BYTES, 0);
        return r < 0 || max_bytes == 0 ? r : data_copy_up(&w->context, path, max_bytes, reterr);
}

static int send_remount_step(const char *name, const char *text, void *userdata) {
        const PlanStep step = { .name = name, .path = "", .text = text };

        return send_step(&step, userdata);
}

/* Who swaps options in should hear at once that they go at the next boot, and what that means. What was
 * loaded before stays: the context works with it. */
static void note_boot_entry(Worker *w) {
        _cleanup_failure_ Failure ignored = FAILURE_INIT;
        Overlay *before = TAKE_PTR(w->overlay);
        CheckList l = { 0 };
        const Check *c = NULL;

        if (load_overlay(w, &ignored) >= 0 && overlay_check(w->overlay, &l) >= 0)
                c = check_list_find(&l, "boot-entry");
        if (c && c->level == CHECK_WARNING)
                context_note(&w->context, "", "%s; %s", c->text, c->advice ?: "");
        check_list_done(&l);
        (void) overlay_free(w->overlay);
        w->overlay = before;
}

static int swap(Worker *w, const RemountRequest *q, Failure *reterr) {
        int r = context_open_mount(&w->context, reterr);

        if (r >= 0)
                r = remount_swap(&w->context, q, &w->remounted, reterr);
        if (r >= 0 && q->set)
                note_boot_entry(w);
        return r;
}

static int remount(Worker *w, Failure *reterr) {
        RemountMethod method = remount_method_from_string(wire_request_get(&w->request, WIRE_REMOUNT));
        const RemountRequest q = {
                .set = wire_request_get(&w->request, WIRE_SET),
                .ignore_blockers = w->context.options.force,
                .may_cover = worker_asks_for(w, WIRE_COVER),
        };

        if (method < 0)
                return failure_set(
                        reterr, FAILURE_INVALID, EINVAL,
                        "no method to remount was given; use reconfigure or swap");
        if (method == REMOUNT_RECONFIGURE)
                return worker_asks_for(w, WIRE_DRY_RUN)
                        ? send_remount_step(
                                  "reconfigure", "make the kernel forget what nobody uses of the overlay",
                                  NULL)
                        : remount_reconfigure(w->context.root_fd, reterr);
        return worker_asks_for(w, WIRE_DRY_RUN)
                ? remount_plan(&w->context, &q, send_remount_step, NULL, reterr)
                : swap(w, &q, reterr);
}

/* Before anything else looks at the overlay: what is mounted there may be another superblock afterwards. */
static int recover_remount(Worker *w, Failure *reterr) {
        int r = remount_recover(w->overlay, reterr);

        if (r <= 0)
                return r;
        w->observer.note(w->observer.userdata, "", "a swap that had been interrupted was completed");
        w->overlay = overlay_free(w->overlay);
        return load_overlay(w, reterr);
}

/* Where the root of a lower layer denies it, too, that is no matter of one directory: its export was
 * withdrawn, and may come back. */
static void tell_withdrawn(const Worker *w, Failure *f) {
        bool is_denied = f->kind == FAILURE_FAILED && (f->error == EACCES || f->error == EPERM);
        char *text;

        if (!is_denied || w->context.root_fd < 0 ||
            error_scope(&w->context, CALL_READ, -f->error) != SCOPE_LOWER)
                return;
        f->kind = FAILURE_LOWER_UNREACHABLE;
        if (asprintf(&text, "%s (as does a whole lower layer)", f->message ?: "denied") < 0)
                return;
        free(f->message);
        f->message = text;
}

/* The daemon sends clean paths; this is for whoever else speaks the protocol. */
static int clean_path(const Worker *w, char **ret, Failure *reterr) {
        const char *path = wire_request_get(&w->request, WIRE_PATH);

        *ret = strdup(path ?: "");
        if (!*ret)
                return -ENOMEM;
        if (path && path[0] == '/')
                return failure_set(
                        reterr, FAILURE_INVALID, EINVAL, "'%s' is not relative to the overlay", path);
        if (path_simplify(*ret) < 0)
                return failure_set(reterr, FAILURE_INVALID, EINVAL, "'%s' has '..' in it", path);
        return 0;
}

/* What is mounted offline is ours, and a remount makes the mount go itself. */
static int use_or_guard(Worker *w, JobType type, Failure *reterr) {
        int r = 0;

        if (type == JOB_REMOUNT || worker_asks_for(w, WIRE_OFFLINE))
                return 0;
        if (worker_asks_for(w, WIRE_ASKED))
                r = guard_use(w);
        if (r >= 0)
                r = guard_start(w);
        return r < 0 ? failure_set_errno(reterr, r, "cannot open the overlay '%s'", w->overlay->mount_point)
                     : 0;
}

int worker_run_verb(Worker *w, Failure *reterr) {
        const char *verb = wire_request_get(&w->request, WIRE_VERB),
                   *name = wire_request_get(&w->request, WIRE_OVERLAY);
        JobType type = job_type_from_string(verb);
        _cleanup_free_ char *path = NULL;
        int r;

        if (type < 0)
                return failure_set(reterr, FAILURE_INVALID, EINVAL, "unknown verb '%s'", verb ?: "");
        if (type == JOB_PATHS)
                return worker_paths(w, reterr);
        if (type == JOB_MISSES)
                return worker_misses(reterr);
        r = clean_path(w, &path, reterr);
        if (r >= 0 && type == JOB_VERIFY && worker_asks_for(w, WIRE_OFFLINE))
                return worker_verify_offline(w, path, reterr);
        if (r >= 0)
                r = worker_asks_for(w, WIRE_OFFLINE) ? load_offline(w, reterr) : load_overlay(w, reterr);
        if (r < 0)
                return r;
        w->is_survey = type == JOB_SURVEY;
        if (w->is_survey)
                r = recover_remount(w, reterr);
        if (r >= 0)
                r = use_or_guard(w, type, reterr);
        if (r >= 0 && w->is_survey)
                r = remount_sweep(w->overlay, reterr); /* may take long */
        if (r < 0)
                return r;
        if (type == JOB_WATCH)
                return worker_watch(w, reterr);
        if (type == JOB_CHECK)
                return check(w, reterr);
        if (type == JOB_BLOCKERS)
                return list_blockers(w, path, reterr);
        r = context_open(
                &w->context, w->overlay, w->name ?: name ?: "", wire_request_get(&w->request, WIRE_STATE_DIR), reterr);
        if (r < 0)
                return r;
        r = set_options(w);
        if (r < 0)
                return failure_set_errno(reterr, r, "cannot use the options of the job");
        w->context.observer = w->observer;
        if (type == JOB_REMOUNT)
                return remount(w, reterr);
        if (type == JOB_INSPECT)
                return inspect(w, path, reterr);
        r = run_job(w, type, path, reterr);
        if (r < 0)
                tell_withdrawn(w, reterr);
        return r;
}
