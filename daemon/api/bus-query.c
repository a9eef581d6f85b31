/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The methods that only look: GetDirectory(), Check(), ListBlockers() by a worker whose answer is sent when
 * it comes, ListDirectories() from the daemon's memory. They make no job and change nothing. A question
 * ends with exactly one reply, at the latest with its deadline (process/query.h). */
#include <string.h>

#include "api/bus-internal.h"
#include "base/path-util.h"
#include "base/utf8.h"
#include "overlays/keeper.h"

typedef struct Question Question;

/* A question of a client, until it is answered. */
struct Question {
        sd_bus_message *message;
        Manager *manager;
        char *overlay; /* name; "" for an overlay that is not configured */
        WireKind kind; /* of the records that answer it: one WIRE_DIRECTORY, or a list of others */
        int (*append)(sd_bus_message *reply, const Question *q, const Managed *o, const WireRecord *r);
        const WireRecord *records; /* the answer */
        size_t n_records;
};

static void question_free(Question *q) {
        if (!q)
                return;
        (void) sd_bus_message_unref(q->message);
        free(q->overlay);
        free(q);
}
DEFINE_CLEANUP(Question *, question_free);

static int append_answer(sd_bus_message *reply, void *userdata) {
        const Question *q = userdata;
        const Managed *o = manager_find_overlay(q->manager, q->overlay);
        int r = o || q->kind == WIRE_CHECK ? 0 : -ENOENT;

        for (size_t i = 0; i < q->n_records && r >= 0; i++)
                if (q->records[i].kind == q->kind)
                        r = q->append(reply, q, o, q->records + i);
        return r;
}

static int send_directory(Question *q) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        int r;

        if (q->n_records == 0 || q->records[0].kind != WIRE_DIRECTORY)
                return -EIO;
        r = sd_bus_message_new_method_return(q->message, &reply);
        if (r >= 0)
                r = append_answer(reply, q);
        return r < 0 ? r : sd_bus_message_send(reply);
}

static void on_answer(const WireRecord *records, size_t n, Failure *failure, void *userdata) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(question_freep) Question *q = userdata;
        int r;

        q->records = records;
        q->n_records = n;
        if (failure->kind != FAILURE_NONE)
                r = bus_error_from_failure(&error, failure);
        else
                r = q->kind == WIRE_DIRECTORY ? send_directory(q)
                                              : bus_reply_list(q->message, "a{sv}", append_answer, q);
        if (r < 0)
                (void) sd_bus_reply_method_errno(q->message, r, &error);
}

/* Who asks, as far as limits go: users who are not root count once, however many connections they have. */
static void find_owner(const Question *q, char *ret, size_t size) {
        uid_t uid = bus_auth_get_caller(q->manager);

        if (uid == 0)
                (void) snprintf(ret, size, "%s", sd_bus_message_get_sender(q->message) ?: "");
        else
                (void) snprintf(ret, size, "user %lu", (unsigned long) uid);
}

/* Takes the request; replies when the worker has answered. path is for messages. */
static int ask(const Question *question, WireRequest *request, const char *path, sd_bus_error *error) {
        _cleanup_(question_freep) Question *q = calloc(1, sizeof(Question));
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        char owner[256]; /* a bus name is shorter */
        QueryOptions options;

        if (request->error < 0 || !q)
                return q ? request->error : -ENOMEM;
        *q = *question;
        q->message = sd_bus_message_ref(q->message);
        q->overlay = strdup(q->overlay);
        if (!q->overlay)
                return -ENOMEM;
        find_owner(q, owner, sizeof(owner));
        options = (QueryOptions){
                owner,     q->overlay,
                path,      q->kind == WIRE_DIRECTORY ? QUERY_INSPECT_USEC : QUERY_CHECK_USEC,
                on_answer, q,
        };
        if (query_start(q->manager->queries, request, &options, &failure) < 0)
                return bus_error_from_failure(error, &failure);
        (void) TAKE_PTR(q);
        return 1;
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
        bool is_held_up = state == DIRECTORY_PENDING && state != i->state;
        int r;

        if (!path)
                return -ENOMEM;
        r = bus_append_entries(
                message, "sssssstt", "overlay", o->config->name, "path", path, "state",
                directory_state_to_string(state), "reason", is_held_up ? j->wait_reason : i->reason,
                "scheme", i->scheme, "lower_path", i->lower_path, "entries", i->entries, "merge_children",
                i->merge_children);
        if (r >= 0 && i->finalized_usec > 0)
                r = bus_append_entries(message, "t", "finalized_usec", i->finalized_usec);
        return r >= 0 && j ? bus_append_entries(message, "u", "job", j->id) : r;
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

static int
append_inspected(sd_bus_message *reply, const Question *q, const Managed *o, const WireRecord *r) {
        DirectoryInfo info = directory_info_from_record(r);

        if (r->state >= _DIRECTORY_STATE_MAX)
                return -EIO;
        recall_reason(o, &info);
        return append_directory(reply, q->manager, o, &info);
}

int bus_method_get_directory(sd_bus_message *message, Manager *m, sd_bus_error *error) {
        _cleanup_(wire_request_done) WireRequest request = { 0 };
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        _cleanup_free_ char *path = NULL, *relative = NULL;
        Managed *o;
        int r = bus_read_text(message, &path);

        if (r < 0)
                return r;
        r = manager_find_path(m, path, &o, &relative, &failure);
        if (r >= 0 && o->state == MANAGED_ABSENT)
                r = managed_check_usable(o, path, &failure);
        if (r < 0)
                return bus_error_from_failure(error, &failure);
        managed_make_request(o, JOB_INSPECT, relative, &request);
        return ask(
                &(Question){ message, m, o->config->name, WIRE_DIRECTORY, append_inspected }, &request, path,
                error);
}

/* Check. */

static int append_check(sd_bus_message *reply, const Question *q, const Managed *o, const WireRecord *r) {
        const char *level = check_level_to_string((CheckLevel) r->state);

        return bus_append_dictionary(
                reply, "ssss", "id", r->name, "level", level ?: "fail", "text", r->text, "advice",
                r->lower_path);
}

/* By name, or by a path on it. */
static int
find_overlay(const Manager *m, const char *which, Managed **ret, char **ret_relative, Failure *reterr) {
        if (which[0] == '/')
                return manager_find_path(m, which, ret, ret_relative, reterr);
        *ret = manager_get_overlay(m, which, reterr);
        if (!*ret)
                return -ENOENT;
        *ret_relative = strdup("");
        return *ret_relative ? 0 : failure_set_errno(reterr, -ENOMEM, "cannot look at '%s'", which);
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
        return 0;
}

int bus_method_check(sd_bus_message *message, Manager *m, sd_bus_error *error) {
        _cleanup_(wire_request_done) WireRequest request = { 0 };
        _cleanup_failure_ Failure failure = FAILURE_INIT, unmanaged = FAILURE_INIT;
        _cleanup_free_ char *which = NULL, *relative = NULL;
        Managed *o = NULL;
        int r = bus_read_text(message, &which);

        if (r < 0)
                return r;
        r = find_overlay(m, which, &o, &relative, &unmanaged);
        if (r >= 0)
                managed_make_request(o, JOB_CHECK, "", &request);
        else if (which[0] == '/')
                r = make_foreign_request(m, which, &request, &failure);
        else
                failure_move(&failure, &unmanaged);
        if (r < 0)
                return bus_error_from_failure(error, &failure);
        return ask(
                &(Question){ message, m, o ? o->config->name : (char *) "", WIRE_CHECK, append_check },
                &request, which, error);
}

/* ListBlockers. */

static int append_blocker(sd_bus_message *reply, const Question *q, const Managed *o, const WireRecord *r) {
        const char *kind = blocker_kind_to_string((BlockerKind) r->state);
        _cleanup_free_ char *path = path_join(o->config->mount_point, r->path);

        if (!path || !kind)
                return path ? -EIO : -ENOMEM;
        return bus_append_dictionary(
                reply, "ussbss", "pid", (unsigned) r->entries_total, "command", r->name, "kind", kind,
                "blocks", r->errors > 0, "path", r->error != ENODATA ? path : NULL, "mount_point",
                r->lower_path[0] ? r->lower_path : NULL);
}

#define OLD_TREES_BYTES_MAX 4096 /* more of one directory than fit are not worth a question */

/* The ids of the old trees of what is at path, below or above it. */
static void add_old_trees(WireRequest *request, const Managed *o, const char *path) {
        char ids[OLD_TREES_BYTES_MAX] = "";
        size_t used = 0;

        for (const Keeper *k = o->keepers; k; k = k->next)
                for (const KeptTree *t = k->trees; t; t = t->next)
                        if ((path_startswith(t->path, path) || path_startswith(path, t->path)) &&
                            used + strlen(t->id) + 2 < sizeof(ids))
                                used += (size_t) snprintf(ids + used, sizeof(ids) - used, "%s ", t->id);
        wire_request_add(request, WIRE_OLD_TREES, ids);
}

int bus_method_list_blockers(sd_bus_message *message, Manager *m, sd_bus_error *error) {
        _cleanup_(wire_request_done) WireRequest request = { 0 };
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        _cleanup_free_ char *which = NULL, *relative = NULL;
        Managed *o;
        int r = bus_read_text(message, &which);

        if (r < 0)
                return r;
        r = find_overlay(m, which, &o, &relative, &failure);
        if (r >= 0 && o->state == MANAGED_ABSENT)
                r = managed_check_usable(o, which, &failure);
        if (r < 0)
                return bus_error_from_failure(error, &failure);
        managed_make_request(o, JOB_BLOCKERS, relative, &request);
        add_old_trees(&request, o, relative);
        return ask(
                &(Question){ message, m, o->config->name, WIRE_BLOCKER, append_blocker }, &request, which,
                error);
}

/* ListDirectories. */

/* A bus ends the connection of who sends a message that is too large: 32 MiB on the system bus. */
#define LISTING_BYTES_MAX (16 * 1024 * 1024)
#define ENTRY_BYTES 400 /* of a listed directory without its strings */

typedef struct Listing {
        sd_bus_message *reply;
        size_t n_bytes; /* about */
        const Manager *manager;
        const char *name; /* of the overlay that is wanted, "" for all */
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

static int append_listing(sd_bus_message *reply, void *userdata) {
        Listing *l = userdata;
        const Manager *m = l->manager;
        int r = 0;

        l->reply = reply;
        for (size_t i = 0; i < m->n_overlays && r >= 0; i++)
                if (l->name[0] == '\0' || strcmp(l->name, m->overlays[i]->config->name) == 0)
                        r = append_overlay(l, m->overlays[i]);
        return r;
}

int bus_method_list_directories(sd_bus_message *message, Manager *m, sd_bus_error *error) {
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        _cleanup_(listing_done) Listing l = { .manager = m, .state = _DIRECTORY_STATE_INVALID };
        int r = sd_bus_message_read(message, "s", &l.name);

        if (r >= 0)
                r = bus_read_options(message, read_filter, &l, &failure);
        if (r >= 0 && l.name[0] != '\0' && !manager_get_overlay(m, l.name, &failure))
                r = -ENOENT;
        if (r < 0)
                return failure.kind != FAILURE_NONE ? bus_error_from_failure(error, &failure) : r;
        r = bus_reply_list(message, "a{sv}", append_listing, &l);
        return r == -ENOBUFS
                ? sd_bus_error_setf(
                          error, SD_BUS_ERROR_LIMITS_EXCEEDED,
                          "Too many directories for one message; ask for an overlay, a state or a path")
                : r;
}
