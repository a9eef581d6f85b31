/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What stdout and stderr are, and what may be done with them: colour, width, a pager. Also the one place
 * that writes error messages: one line, escaped, on stderr. Nothing but a terminal gets colour, and
 * NO_COLOR and TERM=dumb are obeyed. */
#pragma once

#include <sys/types.h>

#include "base/macro.h"

typedef enum Color {
        COLOR_NONE,
        COLOR_GREEN,
        COLOR_YELLOW,
        COLOR_RED,
        COLOR_GREY,
        COLOR_BOLD,
        _COLOR_MAX,
} Color;

typedef struct Term {
        bool is_terminal; /* stdout, before a pager took its place */
        bool has_color;
        bool want_pager; /* false: term_open_pager() does nothing */
        unsigned width;  /* columns of stdout; 0 when it is no terminal: unlimited */
        pid_t pager;     /* 0 without one */
} Term;

/* Reads the environment: TERM, NO_COLOR, COLUMNS. */
void term_init(Term *t);
/* From here on stdout is a pager, where that makes sense: stdout is a terminal and the environment does not
 * say otherwise
 * ($SYSTEMD_PAGER, $PAGER, $SYSTEMD_LESS, $SYSTEMD_PAGERSECURE, all as in systemd's tools). No pager is no
 * error. */
void term_open_pager(Term *t);
/* Flushes stdout and waits for the pager. Returns 0, or -errno when not all output could be written; -EPIPE
 * is a reader who has seen enough. */
int term_finish(Term *t);

/* The sequence that starts the colour (COLOR_NONE: that ends all), or "" when colour is off. */
const char *term_color(const Term *t, Color c) _pure_;
/* A dot, in ASCII outside of UTF-8 locales. */
const char *term_dot(void);
const char *term_ellipsis(void);
/* How far something is, as a bar of that many columns; in ASCII outside of UTF-8 locales. total must not be
 * 0. Allocated; NULL on out of memory. */
char *term_bar(uint64_t done, uint64_t total, unsigned width);
/* Columns of the terminal behind fd, 80 if that is not known. */
unsigned term_width(int fd);
/* Whether a line may be rewritten in place there. */
bool term_is_interactive(int fd);

/* "ovlfinctl: MESSAGE" as one line on stderr, control characters escaped. */
void print_error(const char *format, ...) _printf_(1, 2);
/* The same, and returns the exit code of out of memory. */
int print_oom(void);
