/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "overlays/managed.h"

#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "base/strv.h"
#include "overlays/keeper.h"
#include "overlays/mount-symlink.h"
#include "service/log.h"
#include "service/loop.h"
#include "service/messages.h"

#define SURVEY_FAILURES_MAX 3
#define STUCK_MAX 4 /* hanging workers of one overlay before no more are sent after them */
#define SURVEY_PATIENCE_USEC (60 * USEC_PER_SEC) /* then it is told that it takes long */
#define RETRY_FIRST_USEC (5 * USEC_PER_SEC)
#define RETRY_LAST_USEC (60 * USEC_PER_SEC) /* who meets a precondition should not wait for long */

static const char *const state_names[_MANAGED_STATE_MAX] = { "absent", "starting", "active", "refused" };

const char *managed_state_to_string(ManagedState s) {
        return state_names[s];
}

int managed_new(
        const Host *host,
        const ManagedEvents *events,
        void *userdata,
        OverlayConfig *config,
        Managed **ret) {
        _cleanup_(managed_freep) Managed *o = calloc(1, sizeof(Managed));

        if (!o)
                return -ENOMEM;
        *o = (Managed){ .host = host,
                        .events = events,
                        .userdata = userdata,
                        .config = overlay_config_ref(config),
                        .retry_usec = RETRY_FIRST_USEC };
        o->begun_usec = loop_now(host->event, CLOCK_MONOTONIC);
        watching_init(o);
        coverage_set(&o->coverage, &config->settings);
        o->directories = directory_table_new();
        o->heat = heat_table_new();
        if (!o->directories || !o->heat)
                return -ENOMEM;
        heat_table_set_worth(o->heat, config->settings.hot_opens, config->settings.hot_misses);
        *ret = TAKE_PTR(o);
        return 0;
}

/* Ends all workers that belong to the mount there was, and forgets what they found. */
static void managed_clear(Managed *o) {
        o->retry = sd_event_source_disable_unref(o->retry);
        o->survey = proc_free(o->survey);
        o->compare = proc_free(o->compare);
        o->compare_timer = sd_event_source_disable_unref(o->compare_timer);
        o->is_survey_wanted = false;
        keeper_free_all(o);
        o->overlay = overlay_free(o->overlay);
        (void) str_replace(&o->options, NULL);
        (void) str_replace(&o->unproved, NULL);
        o->is_proof_wanted = false;
}

Managed *managed_free(Managed *o) {
        if (!o)
                return NULL;
        managed_clear(o);
        source_done(&o->watching);
        coverage_done(&o->coverage);
        (void) sd_event_source_disable_unref(o->left_out);
        (void) sd_event_source_disable_unref(o->automatic_timer);
        o->heat = heat_table_free(o->heat);
        o->directories = directory_table_free(o->directories);
        (void) overlay_config_unref(o->config);
        free(o->reason);
        free(o);
        return NULL;
}

static void managed_set_state(Managed *o, ManagedState state, FailureKind refusal, const char *reason) {
        if (o->state == state && str_equal(o->reason, reason))
                return;
        o->state = state;
        o->refusal = refusal;
        (void) str_replace(&o->reason, reason);
        o->events->changed(o);
        source_update(&o->watching);
        o->is_heat_changed = true; /* what may be done about it */
}

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata) {
        managed_survey(userdata);
        return 0;
}

/* While a survey runs, its end decides what comes next. */
void managed_schedule_retry(Managed *o) {
        int r;

        if (o->survey) {
                o->is_survey_wanted = true;
                return;
        }
        o->retry = sd_event_source_disable_unref(o->retry);
        r = sd_event_add_time_relative(
                o->host->event, &o->retry, CLOCK_MONOTONIC, o->retry_usec, USEC_PER_SEC, on_retry, o);
        if (r < 0)
                (void) log_error_errno(
                        r, "Cannot schedule another look at overlay '%s': %m", o->config->name);
        o->retry_usec = pause_next(o->retry_usec, RETRY_LAST_USEC);
}

static void managed_refuse(Managed *o, FailureKind kind, const char *reason) {
        if (o->state != MANAGED_REFUSED || !str_equal(o->reason, reason))
                log_fields(
                        LOG_WARNING, MANAGED_FIELDS(o, MESSAGE_OVERLAY_REFUSED),
                        "Overlay '%s' is refused: %s", o->config->name, reason);
        managed_set_state(o, MANAGED_REFUSED, kind, reason);
        o->events->fail_jobs(o, kind, reason);
}

static void managed_activate(Managed *o) {
        size_t n = directory_table_count(o->directories, DIRECTORY_FINALIZED);

        o->n_survey_failures = 0;
        if (o->state != MANAGED_ACTIVE)
                log_fields(
                        LOG_INFO, MANAGED_FIELDS(o, MESSAGE_OVERLAY_ACTIVE),
                        "Overlay '%s' at '%s' is ready, %zu director%s finalized", o->config->name,
                        o->config->mount_point, n, PLURAL_Y(n));
        managed_set_state(o, MANAGED_ACTIVE, FAILURE_NONE, NULL);
}

/* Mount monitoring. */

static int managed_read_mount(const Managed *o, Overlay **ret, Failure *reterr) {
        const OverlayConfig *c = o->config;
        _cleanup_strv_free_ char **lower = NULL, **data = NULL;
        int r = c->lower ? overlay_split_lowerdir(c->lower, &lower, &data) : 0;

        if (r < 0)
                return failure_set_errno(
                        reterr, r, "cannot use LowerDir=%s of overlay '%s'", c->lower, c->name);
        return overlay_load(
                NULL, c->mount_point, &(OverlayLayers){ .lower = lower, .upper = c->upper, .work = c->work },
                ret, reterr);
}

static void managed_drop(Managed *o, const char *reason) {
        managed_clear(o);
        directory_table_clear(o->directories);
        if (o->state != MANAGED_ABSENT)
                log_fields(
                        LOG_INFO, MANAGED_FIELDS(o, MESSAGE_OVERLAY_ABSENT), "Overlay '%s' is gone: %s",
                        o->config->name, reason);
        else if (!o->reason)
                log_fields(
                        LOG_INFO, MANAGED_FIELDS(o, MESSAGE_OVERLAY_ABSENT),
                        "Overlay '%s' is not there yet: %s", o->config->name, reason);
        o->events->fail_jobs(o, FAILURE_NOT_MANAGED, reason);
        managed_set_state(o, MANAGED_ABSENT, FAILURE_NOT_MANAGED, reason);
}

static void managed_load(Managed *o) {
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        int r;

        r = managed_read_mount(o, &o->overlay, &failure);
        if (r == -ENOENT || r == -EMEDIUMTYPE) {
                managed_drop(o, failure.message ?: "nothing is mounted there");
                return;
        }
        o->retry_usec = RETRY_FIRST_USEC;
        o->n_survey_failures = 0;
        if (r < 0) {
                managed_refuse(o, failure.kind, failure.message ?: strerror(-r));
                return;
        }
        managed_set_state(o, MANAGED_STARTING, FAILURE_NONE, NULL);
        managed_survey(o);
}

/* A swap, or what a survey made of one that was interrupted: all that is known of the directories stays
 * true, the workers that keep old things go on. */
static bool managed_follow_swap(Managed *o) {
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        _cleanup_(overlay_freep) Overlay *new = NULL;

        if (!o->overlay || managed_read_mount(o, &new, &failure) < 0 ||
            !overlay_is_successor(o->overlay, new))
                return false;
        (void) overlay_free(o->overlay);
        o->overlay = TAKE_PTR(new);
        o->events->changed(o);
        managed_survey(o);
        return true;
}

static const MountEntry *managed_find_mount(const Managed *o, const MountTable *table) {
        const MountEntry *e = mount_table_reach(table, o->config->mount_point);

        return e && strcmp(e->target, o->config->mount_point) == 0 ? e : NULL;
}

/* NULL on out of memory. */
static char *why_absent(const Managed *o, const MountTable *table) {
        _cleanup_free_ char *link = NULL, *target = NULL;
        const char *path = o->config->mount_point;

        if (mount_symlink_find(table, path, &link, &target) > 0)
                return str_format(
                        "nothing is mounted at '%s', for '%s' is a symlink to '%s'; let MountPoint= be the "
                        "path "
                        "without symlinks, which 'findmnt' shows",
                        path, link, target);
        return str_format("nothing is mounted at '%s'", path);
}

void managed_update_mount(Managed *o, const MountTable *table) {
        const MountEntry *e = managed_find_mount(o, table);
        _cleanup_free_ char *options = NULL;

        if (!e) {
                _cleanup_free_ char *reason = NULL;

                if (o->state == MANAGED_ABSENT && o->reason)
                        return;
                reason = why_absent(o, table);
                managed_drop(o, reason ?: "not mounted");
                return;
        }
        options = str_format("%i %s %s %s", e->id, e->type, e->vfs_options, e->fs_options);
        if (!options)
                return;
        if (str_equal(options, o->options)) {
                managed_want_proof(o);
                return;
        }
        if (o->overlay && o->overlay->mount_id != e->id && managed_follow_swap(o)) {
                free(o->options);
                o->options = TAKE_PTR(options);
                return;
        }
        if (o->overlay && o->overlay->mount_id != e->id)
                managed_drop(o, "another file system has been mounted in its place");
        o->overlay = overlay_free(o->overlay);
        free(o->options);
        o->options = TAKE_PTR(options);
        managed_load(o);
}

void managed_set_config(Managed *o, OverlayConfig *config, const MountTable *table) {
        bool is_same = overlay_config_same_mount(o->config, config);

        if (!is_same && o->state != MANAGED_ABSENT)
                managed_drop(o, "its configuration has changed");
        (void) overlay_config_unref(o->config);
        o->config = overlay_config_ref(config);
        o->watching.tag = o->config->name;
        coverage_set(&o->coverage, &config->settings);
        o->options_tried_usec = 0;
        if (!is_same) {
                (void) str_replace(&o->reason, NULL);
                managed_update_mount(o, table);
        } else if (o->state == MANAGED_REFUSED && o->overlay)
                managed_survey(o);
        else {
                source_restart(&o->watching);
                if (o->state == MANAGED_ACTIVE)
                        o->events->may_remount(o);
        }
        heat_table_set_worth(o->heat, config->settings.hot_opens, config->settings.hot_misses);
        heat_table_forgive_all(o->heat);
        o->is_heat_changed = true;
        o->events->changed(o);
}

bool managed_is_open(const Managed *o) {
        return o->state == MANAGED_ACTIVE && !o->survey && !o->is_paused &&
                proc_pool_count_stuck(o->host->workers, o->config->name) < STUCK_MAX;
}

int managed_check_usable(const Managed *o, const char *path, Failure *reterr) {
        unsigned n_stuck = proc_pool_count_stuck(o->host->workers, o->config->name);
        const char *name = o->config->name;

        if (o->state == MANAGED_ABSENT)
                return failure_set(
                        reterr, FAILURE_NOT_MANAGED, ENOENT,
                        "'%s' is on overlay '%s', which is not mounted: %s", path, name,
                        o->reason ?: "it has not been looked for yet");
        if (o->state == MANAGED_REFUSED)
                return failure_set(
                        reterr, o->refusal, EOPNOTSUPP, "'%s' is on overlay '%s', which is refused: %s",
                        path, name, o->reason);
        if (n_stuck >= STUCK_MAX)
                return failure_set(
                        reterr, FAILURE_LOWER_UNREACHABLE, EHOSTUNREACH,
                        "'%s' is on overlay '%s', for which %u worker%s in the kernel; see whether the "
                        "server of its "
                        "lower layers answers",
                        path, name, n_stuck, n_stuck == 1 ? " hangs" : "s hang");
        return 0;
}

/* The survey. */

/* There is no limit to what it may find to do, so it is not ended, only no longer silent. */
static int on_survey_late(sd_event_source *s, uint64_t usec, void *userdata) {
        Managed *o = userdata;
        const char *reason =
                "still being looked through; if this lasts, see whether its lower layers answer";

        o->retry = sd_event_source_disable_unref(o->retry);
        log_warning("Overlay '%s' is %s", o->config->name, reason);
        if (o->state == MANAGED_STARTING)
                managed_set_state(o, MANAGED_STARTING, FAILURE_NONE, reason);
        return 0;
}

static void on_forgotten(const DirectoryInfo *info, void *userdata) {
        Managed *o = userdata;

        if (o->state == MANAGED_ACTIVE)
                o->events->directory_changed(o, info->path, DIRECTORY_MERGED);
}

/* n_left: pieces of work that it could not finish. */
static void managed_end_survey(Managed *o, FailureKind kind, const char *message, uint64_t n_left) {
        o->survey = NULL;
        o->retry = sd_event_source_disable_unref(o->retry);
        if (kind == FAILURE_NOT_MANAGED) { /* the mount table says so as well, in a moment */
                managed_schedule_retry(o);
                return;
        }
        if (kind == FAILURE_NONE) {
                directory_table_survey_end(o->directories, on_forgotten, o);
                managed_activate(o);
                managed_schedule_first_compare(o);
        } else if (kind != FAILURE_LOWER_UNREACHABLE || o->state != MANAGED_ACTIVE)
                managed_refuse(o, kind, message);
        else /* its jobs wait, and so does this */
                log_notice("Overlay '%s' is looked through again later: %s", o->config->name, message);
        if (kind != FAILURE_NONE || n_left > 0)
                managed_schedule_retry(o);
        else
                o->retry_usec = RETRY_FIRST_USEC;
        o->events->changed(o);
        o->events->wake(o);
        if (o->is_survey_wanted)
                managed_survey(o);
        else
                o->events->may_remount(o);
}

static void survey_on_record(Proc *p, const WireRecord *r, void *userdata) {
        Managed *o = userdata;
        FailureKind kind;

        switch (r->kind) {
        case WIRE_DIRECTORY:
                (void) managed_learn(o, r);
                break;
        case WIRE_NOTE:
                keeper_log_note(o, r);
                break;
        case WIRE_KEPT:
                keeper_take_kept(o, p, r);
                break;
        case WIRE_RESULT:
                kind = failure_kind_from_string(r->name);
                keeper_adopt(o, p);
                managed_end_survey(o, kind >= 0 ? kind : FAILURE_FAILED, r->text, r->errors);
                break;
        default:
                break;
        }
}

static void survey_on_end(Proc *p, ProcEnd end, int status, void *userdata) {
        _cleanup_free_ char *message = NULL;
        Managed *o = userdata;

        keeper_forget(o, p);
        if (end == PROC_UNMOUNTED) {
                managed_end_survey(o, FAILURE_NOT_MANAGED, "", 0);
                return;
        }
        if (end == PROC_SIGNALED && ++o->n_survey_failures < SURVEY_FAILURES_MAX) {
                log_notice(
                        "The worker that surveys overlay '%s' was killed by signal %i, starting another",
                        o->config->name, status);
                o->survey = NULL;
                managed_survey(o);
                return;
        }
        if (end == PROC_ABANDONED) {
                managed_end_survey(
                        o, FAILURE_LOWER_UNREACHABLE, "the worker that looks at it hangs in the kernel", 0);
                return;
        }
        message = str_format(
                "the worker that looks at it ended by %s %i without a result",
                end == PROC_EXITED ? "exit status" : "signal", status);
        managed_end_survey(o, FAILURE_FAILED, message ?: "the worker that looks at it failed", 0);
}

static const ProcHandler survey_handler = { .on_record = survey_on_record, .on_end = survey_on_end };

void managed_survey(Managed *o) {
        _cleanup_(wire_request_done) WireRequest q = { 0 };
        int r;

        if (!o->overlay || o->host->is_stopping)
                return;
        if (o->survey) {
                o->is_survey_wanted = true;
                return;
        }
        o->is_survey_wanted = false;
        o->retry = sd_event_source_disable_unref(o->retry);
        directory_table_survey_begin(o->directories);
        managed_make_request(o, JOB_SURVEY, "", &q);
        r = proc_spawn(o->host->workers, o->config->name, &q, &survey_handler, o, &o->survey);
        if (r < 0) {
                _cleanup_failure_ Failure f = FAILURE_INIT;

                (void) failure_set_errno(&f, r, "cannot start a worker for it");
                managed_end_survey(o, FAILURE_FAILED, f.message ?: "cannot start a worker for it", 0);
                return;
        }
        (void) sd_event_add_time_relative(
                o->host->event, &o->retry, CLOCK_MONOTONIC, SURVEY_PATIENCE_USEC, USEC_PER_SEC,
                on_survey_late, o);
        o->events->wake(o);
}

bool managed_is_remountable(const Managed *o) {
        return managed_is_open(o) ||
                (o->state == MANAGED_REFUSED && o->overlay && !o->survey && !o->is_paused);
}

/* Also one that is refused: a swap may give it the options it lacks. */
int managed_check_remountable(const Managed *o, Failure *reterr) {
        if (o->state == MANAGED_REFUSED && o->overlay)
                return 0;
        return managed_check_usable(o, o->config->mount_point, reterr);
}
