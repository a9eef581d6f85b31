/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/journal.h"

#include <string.h>
#include <syslog.h>
#include <systemd/sd-journal.h>
#include <time.h>

#include "base/utf8.h"

#define N_LINES 10     /* as systemctl status has it */
#define FIELD_MAX 4096 /* a longer message is cut by the journal library */

static inline void journal_closep(sd_journal **j) {
        if (*j)
                sd_journal_close(*j);
}

/* The text of a field, escaped; "" without it. NULL on out of memory. */
static char *field_text(sd_journal *j, const char *field) {
        _cleanup_free_ char *s = NULL;
        const void *data;
        size_t size, skip = strlen(field) + 1;

        if (sd_journal_get_data(j, field, &data, &size) < 0 || size < skip)
                return strdup("");
        s = strndup((const char *) data + skip, size - skip);
        return s ? utf8_escape_line(s) : NULL;
}

static const char *time_text(sd_journal *j, char *buffer, size_t size) {
        uint64_t usec;
        struct tm tm;
        time_t t;

        if (sd_journal_get_realtime_usec(j, &usec) < 0)
                return "?";
        t = (time_t) (usec / USEC_PER_SEC);
        return localtime_r(&t, &tm) && strftime(buffer, size, "%b %d %H:%M:%S", &tm) > 0 ? buffer : "?";
}

static void print_entry(const Ctl *c, sd_journal *j) {
        _cleanup_free_ char *message = field_text(j, "MESSAGE"), *pid = field_text(j, "_PID"),
                            *priority = field_text(j, "PRIORITY");
        char when[64];
        bool bad;

        if (!message || !pid || !priority)
                return;
        bad = *priority && *priority - '0' <= LOG_WARNING;
        (void) printf(
                "%s ovlfind[%s]: %s%s%s\n", time_text(j, when, sizeof(when)), pid,
                bad ? term_color(&c->term, COLOR_YELLOW) : "", message,
                bad ? term_color(&c->term, COLOR_NONE) : "");
}

static int seek_tail(sd_journal *j, const char *overlay) {
        _cleanup_free_ char *match = NULL;
        int r;

        if (asprintf(&match, "OVLFIND_OVERLAY=%s", overlay) < 0) {
                match = NULL;
                return -ENOMEM;
        }
        r = sd_journal_add_match(j, match, 0);
        if (r < 0)
                return r;
        (void) sd_journal_set_data_threshold(j, FIELD_MAX);
        r = sd_journal_seek_tail(j);
        return r < 0 ? r : sd_journal_previous_skip(j, N_LINES);
}

void journal_print_tail(const Ctl *c, const char *overlay) {
        _cleanup_(journal_closep) sd_journal *j = NULL;
        int r;

        if (endpoint_is_remote(&c->client.endpoint) || sd_journal_open(&j, SD_JOURNAL_LOCAL_ONLY) < 0)
                return;
        r = seek_tail(j, overlay);
        if (r > 0)
                (void) putchar('\n');
        while (r > 0) {
                print_entry(c, j);
                r = sd_journal_next(j);
        }
}
