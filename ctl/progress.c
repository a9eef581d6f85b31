/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/progress.h"

#include <inttypes.h>
#include <string.h>

#include "base/str.h"
#include "ctl/format.h"
#include "ctl/term.h"

#define DRAW_INTERVAL_USEC (100 * USEC_PER_MSEC)
#define RATE_AFTER_USEC (2 * USEC_PER_SEC) /* earlier, rates only jump about */

static bool is_interesting(const char *state) {
        return strcmp(state, "running") != 0 && strcmp(state, "done") != 0;
}

/* ", 812/s, 6 s left" */
static char *pace_text(uint64_t done, uint64_t total, uint64_t elapsed_usec) {
        _cleanup_free_ char *rate = NULL, *left = NULL;
        uint64_t left_usec;

        if (elapsed_usec < RATE_AFTER_USEC || done == 0)
                return strdup("");
        rate = format_rate(done, elapsed_usec);
        left_usec = format_time_left(done, total, elapsed_usec);
        if (left_usec != USEC_INFINITY && total > done)
                left = format_seconds(left_usec + USEC_PER_SEC - 1); /* never "0 s left" */
        return str_format(", %s%s%s%s", rate ?: "", left ? ", " : "", left ?: "", left ? " left" : "");
}

char *
progress_text(const char *label, const char *state, uint64_t done, uint64_t total, uint64_t elapsed_usec) {
        _cleanup_free_ char *pace = pace_text(done, total, elapsed_usec), *count = NULL;
        const char *extra = is_interesting(state) ? state : NULL;

        if (total > 0)
                count = str_format(": %" PRIu64 "/%" PRIu64 " entr%s", done, total, PLURAL_Y(total));
        else if (done > 0)
                count = str_format(": %" PRIu64 " entr%s", done, PLURAL_Y(done));
        else
                count = strdup(extra ? ": " : term_ellipsis());
        if (!pace || !count)
                return NULL;
        return str_format(
                "%s%s%s%s%s", label, count, pace, extra && (done > 0 || total > 0) ? ", " : "", extra ?: "");
}

void progress_init(Progress *p, const char *label, bool quiet) {
        *p = (Progress){
                .label = quiet ? NULL : label,
                .is_interactive = term_is_interactive(STDERR_FILENO),
                .width = term_width(STDERR_FILENO),
        };
}

static void draw(Progress *p, const char *text) {
        /* One column stays free: a full line would wrap on some terminals. */
        (void) fprintf(stderr, "\r%.*s\033[K", (int) format_fitting(text, p->width - 1), text);
        (void) fflush(stderr);
        p->is_shown = true;
}

static void print_tenth(Progress *p, const char *text, uint64_t done, uint64_t total) {
        unsigned tenth = total > 0 ? (unsigned) ((double) done * 10 / (double) total) : 0;

        if (tenth <= p->tenth || tenth >= 10)
                return;
        p->tenth = tenth;
        (void) fprintf(stderr, "%u%% %s\n", tenth * 10, text);
}

void progress_update(Progress *p, const char *state, uint64_t done, uint64_t total, uint64_t now_usec) {
        _cleanup_free_ char *text = NULL;

        if (!p->label)
                return;
        if (done > 0 && p->started_usec == 0)
                p->started_usec = now_usec;
        if (p->is_interactive && p->is_shown && now_usec < p->drawn_usec + DRAW_INTERVAL_USEC)
                return;
        text = progress_text(
                p->label, state, done, total, p->started_usec > 0 ? now_usec - p->started_usec : 0);
        if (!text)
                return;
        p->drawn_usec = now_usec;
        if (p->is_interactive)
                draw(p, text);
        else
                print_tenth(p, text, done, total);
}

void progress_clear(Progress *p) {
        if (!p->is_shown)
                return;
        (void) fputs("\r\033[K", stderr);
        (void) fflush(stderr);
        p->is_shown = false;
}
