/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The methods that only look: GetDirectory(), Check(), ListBlockers() by a worker whose answer is sent when
 * it comes, ListDirectories() from the daemon's memory. They make no job and change nothing. A question
 * ends with exactly one reply, at the latest with its deadline (process/query.h). */
#include <string.h>

#include "api/bus-internal.h"
#include "base/path-util.h"
#include "base/utf8.h"

/* A question of a client, until it is answered. */
typedef struct Question {
        sd_bus_message *message;
        Manager *manager;
        char *overlay; /* name; "" for an overlay that is not configured */
} Question;

static void question_free(Question *q) {
        if (!q)
                return;
        (void) sd_bus_message_unref(q->message);
        free(q->overlay);
        free(q);
}
DEFINE_CLEANUP(Question *, question_free);

static int question_new(sd_bus_message *message, Manager *m, const char *overlay, Question **ret) {
        _cleanup_(question_freep) Question *q = malloc(sizeof(Question));

        if (!q)
                return -ENOMEM;
        *q = (Question){ .message = sd_bus_message_ref(message), .manager = m, .overlay = strdup(overlay) };
        if (!q->overlay)
                return -ENOMEM;
        *ret = TAKE_PTR(q);
        return 0;
}

static void question_reply_failure(const Question *q, const Failure *f) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;

        (void) bus_error_from_failure(&error, f);
        (void) sd_bus_reply_method_error(q->message, &error);
}

/* GetDirectory. */

/* What a job at work makes of a directory that is merged still. */
static DirectoryState state_with_job(DirectoryState s, const Job *j) {
        bool is_at_work = j && j->type == JOB_FINALIZE && !j->options.is_dry_run && j->state != JOB_QUEUED;

        if (!is_at_work || (s != DIRECTORY_MERGED && s != DIRECTORY_COPIED_UP))
                return s;
        return j->wait_reason ? DIRECTORY_PENDING : DIRECTORY_COPYING;
}

int bus_append_directory_entries(
        sd_bus_message *message, const Manager *m, const Managed *o, const DirectoryInfo *i) {
        _cleanup_free_ char *path = path_join(o->config->mount_point, i->path);
        const Job *j = queue_find_job_at(m->queue, o->config->name, i->path);
        DirectoryState state = state_with_job(i->state, j);
        int r;

        if (!path)
                return -ENOMEM;
        if ((r = bus_append_string(message, "overlay", o->config->name)) < 0 ||
            (r = bus_append_string(message, "path", path)) < 0 ||
            (r = bus_append_string(message, "state", directory_state_to_string(state))) < 0 ||
            (r = bus_append_string(
                     message, "reason",
                     state == DIRECTORY_PENDING && state != i->state ? j->wait_reason : i->reason)) < 0 ||
            (r = bus_append_string(message, "scheme", i->scheme)) < 0 ||
            (r = bus_append_string(message, "lower_path", i->lower_path)) < 0 ||
            (r = bus_append_u64(message, "entries", i->entries)) < 0 ||
            (r = bus_append_u64(message, "merge_children", i->merge_children)) < 0)
                return r;
        if (i->finalized_usec > 0 && (r = bus_append_u64(message, "finalized_usec", i->finalized_usec)) < 0)
                return r;
        return j ? sd_bus_message_append(message, "{sv}", "job", "u", j->id) : 0;
}

/* An a{sv} as GetDirectory() and ListDirectories() give it; info->state may be replaced by what a job makes
 * of it. */
static int
append_directory(sd_bus_message *message, const Manager *m, const Managed *o, const DirectoryInfo *i) {
        int r;

        if ((r = sd_bus_message_open_container(message, 'a', "{sv}")) < 0 ||
            (r = bus_append_directory_entries(message, m, o, i)) < 0)
                return r;
        return sd_bus_message_close_container(message);
}

/* Why a directory was left as it is cannot be seen: a job has said it, as ListDirectories says it. */
static void recall_reason(const Managed *o, DirectoryInfo *i) {
        DirectoryInfo known;

        if ((i->state != DIRECTORY_MERGED && i->state != DIRECTORY_COPIED_UP) ||
            directory_table_get(o->directories, i->path, &known) <= 0 ||
            (known.state != DIRECTORY_EXCLUDED && known.state != DIRECTORY_PENDING))
                return;
        i->state = known.state;
        i->reason = known.reason;
}

static int send_directory(const Question *q, const Managed *o, const WireRecord *r) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        DirectoryInfo info = directory_info_from_record(r);
        int k;

        recall_reason(o, &info);
        k = sd_bus_message_new_method_return(q->message, &reply);
        if (k < 0)
                return k;
        k = append_directory(reply, q->manager, o, &info);
        return k < 0 ? k : sd_bus_message_send(reply);
}

static void on_directory(const WireRecord *records, size_t n, Failure *failure, void *userdata) {
        _cleanup_(question_freep) Question *q = userdata;
        const Managed *o = manager_find_overlay(q->manager, q->overlay);
        int r;

        if (failure->kind != FAILURE_NONE) {
                question_reply_failure(q, failure);
                return;
        }
        if (!o || n == 0 || records[0].kind != WIRE_DIRECTORY || records[0].state >= _DIRECTORY_STATE_MAX)
                r = -EIO;
        else
                r = send_directory(q, o, records);
        if (r < 0)
                (void) sd_bus_reply_method_errno(q->message, r, NULL);
}

/* Who asks, as far as limits go: users who are not root count once, however many connections they have. */
static void find_owner(const Question *q, char *ret, size_t size) {
        uid_t uid = bus_auth_get_caller(q->manager);

        if (uid == 0)
                (void) snprintf(ret, size, "%s", sd_bus_message_get_sender(q->message) ?: "");
        else
                (void) snprintf(ret, size, "user %lu", (unsigned long) uid);
}

/* Takes the question; replies when the worker has answered. */
static int
ask(Question *q,
    WireRequest *request,
    const char *path,
    uint64_t timeout_usec,
    query_func func,
    sd_bus_error *error) {
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        char owner[256]; /* a bus name is shorter */
        int r;

        find_owner(q, owner, sizeof(owner));
        r = query_start(
                q->manager->queries, request, owner, q->overlay, path, timeout_usec, func, q, &failure);
        if (r < 0) {
                question_free(q);
                return bus_error_from_failure(error, &failure);
        }
        return 1;
}

int bus_method_get_directory(sd_bus_message *message, Manager *m, sd_bus_error *error) {
        _cleanup_(wire_request_done) WireRequest request = { 0 };
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        _cleanup_free_ char *path = NULL, *relative = NULL;
        Question *q;
        Managed *o;
        int r;

        r = bus_read_text(message, &path);
        if (r < 0)
                return r;
        r = manager_find_path(m, path, &o, &relative, &failure);
        if (r >= 0 && o->state == MANAGED_ABSENT)
                r = managed_check_usable(o, path, &failure);
        if (r < 0)
                return bus_error_from_failure(error, &failure);
        managed_make_request(o, JOB_INSPECT, relative, &request);
        r = request.error;
        if (r >= 0)
                r = question_new(message, m, o->config->name, &q);
        return r < 0 ? r : ask(q, &request, path, QUERY_INSPECT_USEC, on_directory, error);
}

/* Check. */

static int append_check(sd_bus_message *reply, const WireRecord *r) {
        const char *level = check_level_to_string((CheckLevel) r->state);
        int k;

        if ((k = sd_bus_message_open_container(reply, 'a', "{sv}")) < 0 ||
            (k = bus_append_string(reply, "id", r->name)) < 0 ||
            (k = bus_append_string(reply, "level", level ?: "fail")) < 0 ||
            (k = bus_append_string(reply, "text", r->text)) < 0 ||
            (k = bus_append_string(reply, "advice", r->lower_path)) < 0)
                return k;
        return sd_bus_message_close_container(reply);
}

static int send_checks(const Question *q, const WireRecord *records, size_t n) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        int r;

        r = sd_bus_message_new_method_return(q->message, &reply);
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(reply, 'a', "a{sv}");
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++) {
                if (records[i].kind != WIRE_CHECK)
                        continue;
                r = append_check(reply, records + i);
                if (r < 0)
                        return r;
        }
        r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_message_send(reply);
}

static void on_checks(const WireRecord *records, size_t n, Failure *failure, void *userdata) {
        _cleanup_(question_freep) Question *q = userdata;
        int r;

        if (failure->kind != FAILURE_NONE) {
                question_reply_failure(q, failure);
                return;
        }
        r = send_checks(q, records, n);
        if (r < 0)
                (void) sd_bus_reply_method_errno(q->message, r, NULL);
}

/* An overlay that is not configured can be checked too, to see whether it is worth it; only its mount point
 * will do. */
static int make_foreign_request(Manager *m, const char *path, WireRequest *request, Failure *reterr) {
        _cleanup_(overlay_freep) Overlay *overlay = NULL;
        _cleanup_free_ char *p = strdup(path);
        int r;

        if (!p || path_simplify(p) < 0)
                return failure_set(
                        reterr, FAILURE_INVALID, EINVAL, "'%s' is not an absolute path without '..'", path);
        r = overlay_load(NULL, p, NULL, &overlay, NULL);
        if (r == -ENOENT || r == -EMEDIUMTYPE)
                return failure_set(
                        reterr, FAILURE_NOT_MANAGED, ENOENT,
                        "'%s' is neither on a configured overlay nor the mount point of another one", path);
        wire_request_add(request, WIRE_VERB, job_type_to_string(JOB_CHECK));
        wire_request_add(request, WIRE_OVERLAY, "");
        wire_request_add(request, WIRE_MOUNT_POINT, p);
        wire_request_add(request, WIRE_PATH, "");
        wire_request_add(request, WIRE_STATE_DIR, m->host.state_dir);
        return request->error < 0 ? failure_set_errno(reterr, request->error, "cannot check '%s'", path) : 0;
}

static int make_check_request(
        Manager *m, const char *which, WireRequest *request, const char **ret_overlay, Failure *reterr) {
        _cleanup_failure_ Failure unmanaged = FAILURE_INIT;
        _cleanup_free_ char *relative = NULL;
        Managed *o;
        int r;

        *ret_overlay = "";
        if (which[0] != '/') {
                o = manager_find_overlay(m, which);
                if (!o)
                        return failure_set(
                                reterr, FAILURE_NO_SUCH_OVERLAY, ENOENT, "no overlay '%s' is configured",
                                which);
        } else {
                r = manager_find_path(m, which, &o, &relative, &unmanaged);
                if (r < 0)
                        return make_foreign_request(m, which, request, reterr);
        }
        *ret_overlay = o->config->name;
        managed_make_request(o, JOB_CHECK, "", request);
        return request->error < 0 ? failure_set_errno(reterr, request->error, "cannot check '%s'", which)
                                  : 0;
}

int bus_method_check(sd_bus_message *message, Manager *m, sd_bus_error *error) {
        _cleanup_(wire_request_done) WireRequest request = { 0 };
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        _cleanup_free_ char *which = NULL;
        const char *overlay;
        Question *q;
        int r;

        r = bus_read_text(message, &which);
        if (r < 0)
                return r;
        r = make_check_request(m, which, &request, &overlay, &failure);
        if (r < 0)
                return bus_error_from_failure(error, &failure);
        r = question_new(message, m, overlay, &q);
        return r < 0 ? r : ask(q, &request, which, QUERY_CHECK_USEC, on_checks, error);
}

/* ListBlockers. */

static int append_blocker(sd_bus_message *reply, const Managed *o, const WireRecord *r) {
        const char *kind = blocker_kind_to_string((BlockerKind) r->state);
        _cleanup_free_ char *path = path_join(o->config->mount_point, r->path);
        int k;

        if (!path || !kind)
                return path ? -EIO : -ENOMEM;
        if ((k = sd_bus_message_open_container(reply, 'a', "{sv}")) < 0 ||
            (k = sd_bus_message_append(reply, "{sv}", "pid", "u", (uint32_t) r->entries_total)) < 0 ||
            (k = bus_append_string(reply, "command", r->name)) < 0 ||
            (k = bus_append_string(reply, "kind", kind)) < 0 ||
            (k = sd_bus_message_append(reply, "{sv}", "blocks", "b", (int) (r->errors > 0))) < 0)
                return k;
        if (r->error != ENODATA && (k = bus_append_string(reply, "path", path)) < 0)
                return k;
        if (r->lower_path[0] && (k = bus_append_string(reply, "mount_point", r->lower_path)) < 0)
                return k;
        return sd_bus_message_close_container(reply);
}

static int send_blockers(const Question *q, const WireRecord *records, size_t n) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const Managed *o = manager_find_overlay(q->manager, q->overlay);
        int r;

        if (!o)
                return -ENOENT;
        r = sd_bus_message_new_method_return(q->message, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "a{sv}");
        for (size_t i = 0; i < n && r >= 0; i++)
                if (records[i].kind == WIRE_BLOCKER)
                        r = append_blocker(reply, o, records + i);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_message_send(reply);
}

static void on_blockers(const WireRecord *records, size_t n, Failure *failure, void *userdata) {
        _cleanup_(question_freep) Question *q = userdata;
        int r;

        if (failure->kind != FAILURE_NONE) {
                question_reply_failure(q, failure);
                return;
        }
        r = send_blockers(q, records, n);
        if (r < 0)
                (void) sd_bus_reply_method_errno(q->message, r, NULL);
}

typedef struct OldTrees {
        const char *path; /* asked about */
        char ids[4096];   /* more of one directory than fit are not worth a question */
} OldTrees;

static void add_old_tree(const char *path, const char *id, void *userdata) {
        OldTrees *t = userdata;
        size_t used = strlen(t->ids);

        if ((path_startswith(path, t->path) || path_startswith(t->path, path)) &&
            used + strlen(id) + 2 < sizeof(t->ids))
                (void) snprintf(t->ids + used, sizeof(t->ids) - used, "%s ", id);
}

static int find_overlay_or_path(
        const Manager *m, const char *which, Managed **ret, char **ret_relative, Failure *reterr) {
        int r;

        if (which[0] == '/')
                r = manager_find_path(m, which, ret, ret_relative, reterr);
        else {
                *ret = manager_find_overlay(m, which);
                *ret_relative = strdup("");
                r = !*ret_relative ? -ENOMEM : !*ret ? -ENOENT : 0;
                if (r < 0)
                        return failure_set(
                                reterr, FAILURE_NO_SUCH_OVERLAY, -r, "no overlay '%s' is configured", which);
        }
        return r >= 0 && (*ret)->state == MANAGED_ABSENT ? managed_check_usable(*ret, which, reterr) : r;
}

int bus_method_list_blockers(sd_bus_message *message, Manager *m, sd_bus_error *error) {
        _cleanup_(wire_request_done) WireRequest request = { 0 };
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        _cleanup_free_ char *which = NULL, *relative = NULL;
        OldTrees trees = { 0 };
        Question *q;
        Managed *o;
        int r;

        r = bus_read_text(message, &which);
        if (r < 0)
                return r;
        r = find_overlay_or_path(m, which, &o, &relative, &failure);
        if (r < 0)
                return bus_error_from_failure(error, &failure);
        trees.path = relative;
        managed_foreach_kept(o, add_old_tree, &trees);
        managed_make_request(o, JOB_BLOCKERS, relative, &request);
        wire_request_add(&request, WIRE_OLD_TREES, trees.ids);
        r = request.error;
        if (r >= 0)
                r = question_new(message, m, o->config->name, &q);
        return r < 0 ? r : ask(q, &request, which, QUERY_CHECK_USEC, on_blockers, error);
}

/* ListDirectories. */

/* A bus ends the connection of who sends a message that is too large: 32 MiB on the system bus. */
#define LISTING_BYTES_MAX (16 * 1024 * 1024)
#define ENTRY_BYTES 400 /* of a listed directory without its strings */

typedef struct Listing {
        sd_bus_message *reply;
        size_t n_bytes; /* about */
        const Manager *manager;
        const Managed *overlay;
        DirectoryState state; /* wanted; _DIRECTORY_STATE_INVALID: all */
        char *path;           /* wanted, or NULL */
} Listing;

static int read_filter(sd_bus_message *message, const char *key, void *userdata, Failure *reterr) {
        Listing *l = userdata;
        const char *value;
        int r;

        if (strcmp(key, "state") != 0 && strcmp(key, "path") != 0)
                return failure_set(
                        reterr, FAILURE_INVALID, EINVAL, "unknown filter '%s'; use state or path", key);
        r = sd_bus_message_read(message, "v", "s", &value);
        if (r == -ENXIO)
                return failure_set(reterr, FAILURE_INVALID, EINVAL, "filter '%s' has the wrong type", key);
        if (r < 0)
                return r;
        if (strcmp(key, "path") == 0) {
                free(l->path);
                l->path = utf8_unescape(value);
                return l->path ? 0 : -ENOMEM;
        }
        l->state = directory_state_from_string(value);
        return l->state < 0 ? failure_set(reterr, FAILURE_INVALID, EINVAL, "unknown state '%s'", value) : 0;
}

static void listing_done(Listing *l) {
        free(l->path);
}

static int append_listed(const DirectoryInfo *info, void *userdata) {
        Listing *l = userdata;

        if (l->state >= 0 && info->state != l->state)
                return 0;
        l->n_bytes += ENTRY_BYTES + strlen(l->overlay->config->mount_point) + strlen(info->path) +
                strlen(info->lower_path) + strlen(info->reason);
        if (l->n_bytes > LISTING_BYTES_MAX)
                return -ENOBUFS;
        return append_directory(l->reply, l->manager, l->overlay, info);
}

static int append_overlay(Listing *l, const Managed *o) {
        const char *mount_point = o->config->mount_point, *prefix = "";

        if (l->path) {
                prefix = path_startswith(l->path, mount_point);
                if (!prefix && !path_startswith(mount_point, l->path))
                        return 0;
        }
        l->overlay = o;
        return directory_table_foreach(o->directories, prefix ?: "", append_listed, l);
}

static int list_directories(Listing *l, const Manager *m, const char *overlay) {
        int r;

        r = sd_bus_message_open_container(l->reply, 'a', "a{sv}");
        if (r < 0)
                return r;
        for (size_t i = 0; i < m->n_overlays; i++) {
                if (overlay[0] != '\0' && strcmp(overlay, m->overlays[i]->config->name) != 0)
                        continue;
                r = append_overlay(l, m->overlays[i]);
                if (r < 0)
                        return r;
        }
        return sd_bus_message_close_container(l->reply);
}

int bus_method_list_directories(sd_bus_message *message, Manager *m, sd_bus_error *error) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        _cleanup_(listing_done) Listing l = { .manager = m, .state = _DIRECTORY_STATE_INVALID };
        const char *overlay;
        int r;

        r = sd_bus_message_read(message, "s", &overlay);
        if (r >= 0)
                r = bus_read_options(message, read_filter, &l, &failure);
        if (r >= 0 && overlay[0] != '\0' && !manager_find_overlay(m, overlay))
                r = failure_set(
                        &failure, FAILURE_NO_SUCH_OVERLAY, ENOENT, "no overlay '%s' is configured", overlay);
        if (r < 0)
                return failure.kind != FAILURE_NONE ? bus_error_from_failure(error, &failure) : r;
        r = sd_bus_message_new_method_return(message, &reply);
        if (r < 0)
                return r;
        l.reply = reply;
        r = list_directories(&l, m, overlay);
        if (r == -ENOBUFS)
                return sd_bus_error_setf(
                        error, SD_BUS_ERROR_LIMITS_EXCEEDED,
                        "Too many directories for one message; ask for an overlay, a state or a path");
        return r < 0 ? r : sd_bus_message_send(reply);
}
