/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "api/bus-auth.h"

#include <string.h>
#include <utlist.h>

#include "base/path-util.h"
#include "base/utf8.h"
#include "dbus/names.h"
#include "service/config-value.h"
#include "service/log.h"

#define POLKIT_NAME "org.freedesktop.PolicyKit1"
#define POLKIT_PATH "/org/freedesktop/PolicyKit1/Authority"
#define POLKIT_INTERFACE "org.freedesktop.PolicyKit1.Authority"
#define POLKIT_ALLOW_INTERACTION 1U /* CheckAuthorizationFlags */

#define POLKIT_USEC (5 * 60 * USEC_PER_SEC) /* somebody looks for a password */
#define CALLS_PER_SENDER_MAX 16 /* a connection that asks for more is told to wait for its answers */
#define CALLS_PER_USER_MAX 32   /* the same for all connections of a user who is not root */

typedef struct Call {
        struct Call *next;
        BusAuth *auth;
        sd_bus_message *message;
        const BusMember *member;
        Manager *manager;
        uid_t uid; /* UID_INVALID until the bus has said */
        uint64_t id;
        bool is_with_polkit;
        sd_bus_slot *answer;
        sd_bus_slot *departure;
} Call;

struct BusAuth {
        const BusMember *members;
        Call *calls;
        uint64_t last_id;
        uid_t caller;
};

#define UID_INVALID ((uid_t) -1)

static const struct {
        const char *id;
        const char *name;
} actions[] = {
        [BUS_ACTION_FINALIZE] = { "org.ovlfind1.finalize", "finalize directories" },
        [BUS_ACTION_UNFINALIZE] = { "org.ovlfind1.unfinalize", "unfinalize directories" },
        [BUS_ACTION_PRUNE] = { "org.ovlfind1.prune", "prune directories" },
        [BUS_ACTION_REMOUNT] = { "org.ovlfind1.remount", "remount overlays" },
        [BUS_ACTION_MANAGE] = { "org.ovlfind1.manage", "manage ovlfind" },
};

BusAuth *bus_auth_new(const BusMember *members) {
        BusAuth *a = calloc(1, sizeof(BusAuth));

        if (a)
                a->members = members;
        return a;
}

static Call *call_free(Call *c) {
        LL_DELETE(c->auth->calls, c);
        (void) sd_bus_slot_unref(c->answer);
        (void) sd_bus_slot_unref(c->departure);
        (void) sd_bus_message_unref(c->message);
        free(c);
        return NULL;
}
DEFINE_CLEANUP(Call *, call_free);

BusAuth *bus_auth_free(BusAuth *a) {
        while (a && a->calls)
                (void) call_free(a->calls);
        free(a);
        return NULL;
}

uid_t bus_auth_get_caller(const Manager *m) {
        return m->auth->caller;
}

/* The daemon's own user counts too: it could do the same without asking. */
static bool user_is_root(uid_t uid) {
        return uid == 0 || uid == geteuid();
}

static unsigned count_calls_of_sender(const BusAuth *a, const char *sender) {
        unsigned n = 0;

        for (const Call *c = a->calls; c; c = c->next)
                n += strcmp(sd_bus_message_get_sender(c->message), sender) == 0;
        return n;
}

static unsigned count_calls_of_user(const BusAuth *a, uid_t uid) {
        unsigned n = 0;

        for (const Call *c = a->calls; c; c = c->next)
                n += c->uid == uid;
        return n;
}

static int refuse_flood(Call *c) {
        return sd_bus_reply_method_errorf(
                c->message, OVLFIND_ERROR_PREFIX "Busy",
                "too many calls of yours wait for an answer already; answer the questions for a password, "
                "or ask again later");
}

static int refuse(Call *c) {
        return sd_bus_reply_method_errorf(
                c->message, SD_BUS_ERROR_ACCESS_DENIED, "Only root may %s; try it with sudo",
                actions[c->member->action].name);
}

/* The caller may. */
static void call_run(Call *call) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(call_freep) Call *c = call;
        int r;

        c->auth->caller = c->uid;
        r = c->member->handler(c->message, c->manager, &error);
        c->auth->caller = 0;
        if (sd_bus_error_is_set(&error))
                (void) sd_bus_reply_method_error(c->message, &error);
        else if (r < 0)
                (void) sd_bus_reply_method_errno(c->message, r, NULL);
}

/* What the call is about, for the question for a password and for polkit rules. */
typedef struct Subject {
        char *overlay;
        char *path;
} Subject;

static void subject_done(Subject *s) {
        free(s->overlay);
        free(s->path);
}

static void subject_set_job(Subject *s, const Manager *m, uint64_t id) {
        const Job *j = id <= UINT32_MAX ? queue_find(m->queue, (uint32_t) id) : NULL;
        _cleanup_free_ char *path = j ? job_path(j) : NULL;

        if (!path)
                return;
        s->overlay = strdup(j->overlay);
        s->path = utf8_escape(path);
}

static void subject_set_path(Subject *s, const Manager *m, const char *path) {
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        _cleanup_free_ char *name = utf8_unescape(path), *relative = NULL;
        Managed *o;

        s->path = strdup(path);
        if (name && manager_find_path(m, name, &o, &relative, &failure) >= 0)
                s->overlay = strdup(o->config->name);
}

/* By the first argument, as all methods of ours have it: an absolute path, the name of an overlay, or the
 * number of a job. Whoever does not say is asked about ovlfind as a whole. */
static void subject_find(Subject *s, const Manager *m, sd_bus_message *message) {
        const char *text,
                *number = path_startswith(sd_bus_message_get_path(message), OVLFIND_JOB_PATH_PREFIX);
        uint64_t id;
        uint32_t u;

        if (number && value_parse_uint(number, &id) >= 0)
                subject_set_job(s, m, id);
        else if (strcmp(sd_bus_message_get_interface(message) ?: "", OVLFIND_MANAGER_INTERFACE) != 0)
                return;
        else if (sd_bus_message_read(message, "u", &u) > 0)
                subject_set_job(s, m, u);
        else if (sd_bus_message_read(message, "s", &text) > 0 && text[0] == '/')
                subject_set_path(s, m, text);
        else if (sd_bus_message_rewind(message, true) >= 0 && sd_bus_message_read(message, "s", &text) > 0)
                s->overlay = strdup(text);
        (void) sd_bus_message_rewind(message, true);
}

static int append_details(sd_bus_message *question, const Call *c) {
        _cleanup_(subject_done) Subject s = { 0 };
        int r;

        subject_find(&s, c->manager, c->message);
        if ((r = sd_bus_message_open_container(question, 'a', "{ss}")) < 0 ||
            (r = sd_bus_message_append(question, "{ss}", "overlay", s.overlay ?: "")) < 0 ||
            (r = sd_bus_message_append(question, "{ss}", "path", s.path ?: "")) < 0)
                return r;
        return sd_bus_message_close_container(question);
}

static char *call_cancellation_id(const Call *c) {
        char *id;

        return asprintf(&id, "ovlfind-%llu", (unsigned long long) c->id) < 0 ? NULL : id;
}

static bool polkit_is_missing(const sd_bus_error *e) {
        return sd_bus_error_has_name(e, SD_BUS_ERROR_SERVICE_UNKNOWN) ||
                sd_bus_error_has_name(e, SD_BUS_ERROR_NAME_HAS_NO_OWNER);
}

static int on_polkit(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        const sd_bus_error *e = sd_bus_message_get_error(reply);
        int is_authorized = 0, is_challenge = 0;
        Call *c = userdata;

        if (e) {
                if (!polkit_is_missing(e))
                        log_debug(
                                "polkit does not say who may %s: %s", actions[c->member->action].name,
                                e->message);
                (void) refuse(c);
        } else if (
                sd_bus_message_enter_container(reply, 'r', "bba{ss}") < 0 ||
                sd_bus_message_read(reply, "bb", &is_authorized, &is_challenge) < 0) {
                (void) refuse(c);
        } else if (is_authorized) {
                call_run(c);
                return 0;
        } else if (is_challenge)
                (void) sd_bus_reply_method_errorf(
                        c->message, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED,
                        "To %s somebody has to type a password, which cannot be asked for here; try it with "
                        "sudo",
                        actions[c->member->action].name);
        else
                (void) sd_bus_reply_method_errorf(
                        c->message, SD_BUS_ERROR_ACCESS_DENIED,
                        "You are not authorized to %s (%s); try it with sudo, or have it allowed in a rule "
                        "of polkit",
                        actions[c->member->action].name, actions[c->member->action].id);
        (void) call_free(c);
        return 0;
}

/* Nobody is there to do it for: polkit takes the question for a password away. */
static int on_departure(sd_bus_message *signal, void *userdata, sd_bus_error *unused) {
        const char *name, *old, *new;
        Call *c = userdata;

        if (sd_bus_message_read(signal, "sss", &name, &old, &new) < 0 || *new)
                return 0;
        if (c->is_with_polkit) {
                _cleanup_free_ char *id = call_cancellation_id(c);

                (void) sd_bus_call_method_async(
                        sd_bus_message_get_bus(signal), NULL, POLKIT_NAME, POLKIT_PATH, POLKIT_INTERFACE,
                        "CancelCheckAuthorization", NULL, NULL, "s", id ?: "");
        }
        (void) call_free(c);
        return 0;
}

static int call_watch_sender(Call *c, sd_bus *bus) {
        char match[512];
        int n;

        n = snprintf(
                match, sizeof(match),
                "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='%s'",
                sd_bus_message_get_sender(c->message));
        if (n >= (int) sizeof(match))
                return -EINVAL;
        return sd_bus_add_match_async(bus, &c->departure, match, on_departure, NULL, c);
}

static int call_ask_polkit(Call *c) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *question = NULL;
        _cleanup_free_ char *id = call_cancellation_id(c);
        sd_bus *bus = sd_bus_message_get_bus(c->message);
        bool is_interactive = sd_bus_message_get_allow_interactive_authorization(c->message) > 0;
        int r;

        if (!id)
                return -ENOMEM;
        r = call_watch_sender(c, bus);
        if (r < 0)
                return r;
        if ((r = sd_bus_message_new_method_call(
                     bus, &question, POLKIT_NAME, POLKIT_PATH, POLKIT_INTERFACE, "CheckAuthorization")) <
                    0 ||
            (r = sd_bus_message_append(
                     question, "(sa{sv})s", "system-bus-name", 1, "name", "s",
                     sd_bus_message_get_sender(c->message), actions[c->member->action].id)) < 0 ||
            (r = append_details(question, c)) < 0 ||
            (r = sd_bus_message_append(question, "us", is_interactive ? POLKIT_ALLOW_INTERACTION : 0, id)) <
                    0)
                return r;
        c->is_with_polkit = true;
        c->answer = sd_bus_slot_unref(c->answer);
        return sd_bus_call_async(bus, &c->answer, question, on_polkit, c, POLKIT_USEC);
}

static int on_user(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        Call *c = userdata;
        uint32_t uid;
        int r;

        /* Who is not on the bus any more gets no answer and no effect. */
        if (sd_bus_message_is_method_error(reply, NULL) || sd_bus_message_read(reply, "u", &uid) < 0) {
                (void) sd_bus_reply_method_errorf(
                        c->message, SD_BUS_ERROR_ACCESS_DENIED, "Cannot find out who is asking");
                (void) call_free(c);
                return 0;
        }
        if (user_is_root(uid) || c->member->action == BUS_ACTION_ASK) {
                c->uid = uid;
                call_run(c);
                return 0;
        }
        if (count_calls_of_user(c->auth, uid) >= CALLS_PER_USER_MAX)
                r = refuse_flood(c);
        else {
                c->uid = uid;
                r = call_ask_polkit(c);
                if (r >= 0)
                        return 0;
                r = sd_bus_reply_method_errno(c->message, r, NULL);
        }
        (void) call_free(c);
        return r;
}

static int call_new(sd_bus_message *message, const BusMember *member, Manager *m, Call **ret) {
        Call *c = malloc(sizeof(Call));

        if (!c)
                return -ENOMEM;
        *c = (Call){
                .next = m->auth->calls,
                .auth = m->auth,
                .message = sd_bus_message_ref(message),
                .member = member,
                .manager = m,
                .uid = UID_INVALID,
                .id = ++m->auth->last_id,
        };
        m->auth->calls = c;
        *ret = c;
        return 0;
}

static int member_call(sd_bus_message *message, const BusMember *member, Manager *m, sd_bus_error *error) {
        const char *sender = sd_bus_message_get_sender(message);
        _cleanup_(call_freep) Call *c = NULL;
        int r;

        if (member->action == BUS_ACTION_LOOK)
                return member->handler(message, m, error);
        if (!sender)
                return -EACCES;
        r = call_new(message, member, m, &c);
        if (r < 0)
                return r;
        if (count_calls_of_sender(m->auth, sender) > CALLS_PER_SENDER_MAX)
                return refuse_flood(c);
        r = sd_bus_call_method_async(
                sd_bus_message_get_bus(message), &c->answer, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                "org.freedesktop.DBus", "GetConnectionUnixUser", on_user, c, "s", sender);
        if (r < 0)
                return r;
        (void) TAKE_PTR(c);
        return 1;
}

static const BusMember *find_member(const Manager *m, const char *interface, const char *name) {
        for (const BusMember *i = m->auth->members; i->name; i++)
                if (strcmp(i->interface, interface) == 0 && strcmp(i->name, name) == 0)
                        return i;
        return NULL;
}

int bus_auth_call(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        const char *interface = sd_bus_message_get_interface(message),
                   *name = sd_bus_message_get_member(message);
        /* In the vtable of a job userdata is the job; that of the slot is the manager. */
        Manager *m = sd_bus_slot_get_userdata(sd_bus_get_current_slot(sd_bus_message_get_bus(message)));
        const BusMember *member = interface ? find_member(m, interface, name) : NULL;

        if (!member)
                return sd_bus_error_setf(error, SD_BUS_ERROR_ACCESS_DENIED, "Nobody may call %s()", name);
        return member_call(message, member, m, error);
}

int bus_auth_set(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        const char *interface, *property;
        const BusMember *member;
        Manager *m = userdata;
        int r;

        if (!sd_bus_message_is_method_call(message, "org.freedesktop.DBus.Properties", "Set"))
                return 0;
        r = sd_bus_message_read(message, "ss", &interface, &property);
        if (r < 0)
                return r;
        member = find_member(m, interface, property);
        r = sd_bus_message_rewind(message, true);
        return r < 0 || !member ? r : member_call(message, member, m, error);
}

int bus_auth_no_setter(
        sd_bus *bus,
        const char *path,
        const char *interface,
        const char *property,
        sd_bus_message *value,
        void *userdata,
        sd_bus_error *error) {
        return -EACCES;
}
