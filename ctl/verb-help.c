/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* help and version, both from tables: that of verbs and that of options. Nothing about a verb is written
 * here, so no help can differ from what is done. The daemon's version is added when it runs; to ask must
 * not start it. */
#include <getopt.h>
#include <string.h>

#include "base/str.h"
#include "base/utf8.h"
#include "ctl/verbs.h"
#include "dbus/names.h"

#define COLUMN_WIDTH 32 /* of names and their arguments; the rest of the 80 columns explains them */

/* Columns, not bytes: "…" is one. */
static int pad(const char *s) {
        int n = 0;

        for (; *s; s++)
                n += ((unsigned char) *s & 0xc0) != 0x80;
        return n < COLUMN_WIDTH ? COLUMN_WIDTH - n : 1;
}

static void print_verb(const Verb *v) {
        char left[128];

        (void) snprintf(left, sizeof(left), "  %s %s", v->name, v->arguments);
        (void) printf("%s%*s%s\n", left, pad(left), "", v->summary);
}

static void print_option(const OptionInfo *o) {
        bool optional = o->argument && o->has_argument == optional_argument;
        char left[128], dash[8] = "     ";

        if (o->short_name != 0)
                (void) snprintf(dash, sizeof(dash), "  -%c ", o->short_name);
        (void) snprintf(
                left, sizeof(left), "%s--%s%s%s%s%s", dash, o->name, optional ? "[" : "",
                o->argument ? "=" : "", o->argument ?: "", optional ? "]" : "");
        (void) printf("%s%*s%s\n", left, pad(left), "", o->help);
}

/* The options a verb takes, as a user writes them. */
static char **option_names(const Verb *v) {
        char **l = calloc(n_options + 1, sizeof(*l));

        for (size_t i = 0, n = 0; l && i < n_options; i++) {
                if (!((v->options | OPTIONS_COMMON) & option_table[i].id))
                        continue;
                l[n] = str_format("--%s", option_table[i].name);
                n += l[n] != NULL;
        }
        return l;
}

static Record verb_to_record(const Verb *v) {
        char **options = option_names(v);
        Record r = { .is_incomplete = !options };

        if (options)
                record_take(&r, "options", (Value){ .type = VALUE_STRINGS, .strings = options });
        record_set_string(&r, "name", v->name);
        record_set_string(&r, "arguments", v->arguments);
        record_set_string(&r, "summary", v->summary);
        return r;
}

static int print_json(Ctl *c) {
        _cleanup_record_list_ RecordList list = { 0 };
        int r = 0;

        for (size_t i = 0; i < n_verbs && r >= 0; i++) {
                Record record = verb_to_record(&verb_table[i]);

                r = record_list_take(&list, &record);
        }
        return r < 0 || ctl_print_json(c, "verbs", &list) < 0 ? print_oom() : EXIT_CODE_OK;
}

int verb_help(Ctl *c, int argc, char **argv) {
        if (c->options.json != JSON_OFF)
                return print_json(c);
        term_open_pager(&c->term);
        (void) printf("ovlfinctl [OPTIONS…] [VERB [ARGS…]]\n\n"
                      "Ask and steer ovlfind, which finalizes directories of live overlays.\n\nVerbs:\n");
        for (size_t i = 0; i < n_verbs; i++)
                print_verb(&verb_table[i]);
        (void) printf("\nOptions:\n");
        for (size_t i = 0; i < n_options; i++)
                print_option(&option_table[i]);
        (void) printf("\nExit status: 0 success, 1 failure, 2 usage, 3 the daemon cannot be reached,\n"
                      "4 path or overlay not known or not managed, 5 not permitted.\n");
        return EXIT_CODE_OK;
}

/* The daemon's version, when it runs: asking must not start it. */
static char *daemon_version(Ctl *c) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        const char *version;

        if (client_acquire(&c->client) < 0)
                return NULL;
        if (sd_bus_message_new_method_call(
                    c->client.bus, &m, OVLFIND_BUS_NAME, OVLFIND_OBJECT_PATH,
                    "org.freedesktop.DBus.Properties", "Get") < 0)
                return NULL;
        if (sd_bus_message_set_auto_start(m, false) < 0 ||
            sd_bus_message_append(m, "ss", OVLFIND_MANAGER_INTERFACE, "Version") < 0)
                return NULL;
        if (sd_bus_call(c->client.bus, m, /* timeout= */ 5 * USEC_PER_SEC, /* reterr= */ NULL, &reply) < 0)
                return NULL;
        return sd_bus_message_read(reply, "v", "s", &version) < 0 ? NULL : utf8_escape_line(version);
}

static int add_version(RecordList *l, const char *name, const char *version) {
        _cleanup_record_ Record record = { 0 };

        record_set_string(&record, "component", name);
        record_set_string(&record, "version", version);
        return record_list_take(l, &record);
}

int verb_version(Ctl *c, int argc, char **argv) {
        _cleanup_record_list_ RecordList list = { 0 };
        /* --version is about this program alone. */
        _cleanup_free_ char *version = options_have(&c->options, OPTION_VERSION) ? NULL : daemon_version(c);
        int r = add_version(&list, "ovlfinctl", OVLFIND_VERSION);

        if (r >= 0 && version)
                r = add_version(&list, "ovlfind", version);
        if (r < 0)
                return print_oom();
        if (c->options.json != JSON_OFF)
                return ctl_print_json(c, "versions", &list) < 0 ? print_oom() : EXIT_CODE_OK;
        for (size_t i = 0; i < list.n; i++)
                (void) printf(
                        "%s %s\n", record_get_string(&list.items[i], "component"),
                        record_get_string(&list.items[i], "version"));
        return EXIT_CODE_OK;
}
