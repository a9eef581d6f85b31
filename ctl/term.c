/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/term.h"

#include <langinfo.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/str.h"
#include "base/utf8.h"
#include "ctl/exit-code.h"
#include "ctl/format.h"
#include "ctl/pager.h"

#define WIDTH_DEFAULT 80
#define WIDTH_MAX 4096 /* beyond this COLUMNS is a typo */

static bool is_dumb(void) {
        const char *e = getenv("TERM");

        return !e || strcmp(e, "dumb") == 0 || *e == '\0';
}

static bool no_color(void) {
        const char *e = getenv("NO_COLOR"); /* no-color.org: when present and not empty */

        return e && *e;
}

unsigned term_width(int fd) {
        const char *e = getenv("COLUMNS");
        struct winsize ws = { 0 };
        uint32_t n;

        if (e && parse_u32(e, &n) >= 0 && n > 0 && n <= WIDTH_MAX)
                return n;
        if (ioctl(fd, TIOCGWINSZ, &ws) >= 0 && ws.ws_col > 0)
                return ws.ws_col;
        return WIDTH_DEFAULT;
}

bool term_is_interactive(int fd) {
        return isatty(fd) && !is_dumb();
}

void term_init(Term *t) {
        bool tty = isatty(STDOUT_FILENO);

        *t = (Term){
                .is_terminal = tty,
                .want_pager = tty && !is_dumb(),
                .has_color = tty && !is_dumb() && !no_color(),
                .width = tty ? term_width(STDOUT_FILENO) : 0,
        };
}

void term_open_pager(Term *t) {
        if (!t->want_pager || t->pager > 0)
                return;
        t->pager = pager_open();
}

int term_finish(Term *t) {
        int r = 0;

        if (fflush(stdout) != 0 || ferror(stdout))
                r = errno > 0 ? -errno : -EIO;
        if (t->pager > 0) {
                pager_close(t->pager);
                t->pager = 0;
        }
        return r;
}

const char *term_color(const Term *t, Color c) {
        static const char *const sequences[_COLOR_MAX] = {
                [COLOR_NONE] = "\033[0m",        [COLOR_GREEN] = "\033[0;1;32m",
                [COLOR_YELLOW] = "\033[0;1;33m", [COLOR_RED] = "\033[0;1;31m",
                [COLOR_GREY] = "\033[0;90m",     [COLOR_BOLD] = "\033[0;1m",
        };

        return t->has_color ? sequences[c] : "";
}

static bool is_utf8(void) {
        return strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

const char *term_dot(void) {
        return is_utf8() ? "●" : "*";
}

char *term_bar(uint64_t done, uint64_t total, unsigned width) {
        const char *full = is_utf8() ? "█" : "#", *empty = is_utf8() ? "░" : ".";
        unsigned n = done >= total ? width : (unsigned) ((double) done / (double) total * width);
        char *bar = malloc(width * strlen("█") + 1), *out = bar;

        for (unsigned i = 0; bar && i < width; i++)
                out = stpcpy(out, i < n ? full : empty);
        return bar;
}

const char *term_ellipsis(void) {
        return is_utf8() ? "…" : "...";
}

void print_error(const char *format, ...) {
        _cleanup_free_ char *text = NULL, *line = NULL;
        va_list ap;

        (void) fflush(stdout);
        va_start(ap, format);
        text = str_formatv(format, ap);
        va_end(ap);
        line = text ? utf8_escape_line(text) : NULL;
        (void) fprintf(stderr, "ovlfinctl: %s\n", line ?: "out of memory");
}

int print_oom(void) {
        print_error("out of memory");
        return EXIT_CODE_FAILURE;
}
