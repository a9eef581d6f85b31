/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The daemon's log: structured entries to the journal, or plain lines to standard error. The text is one
 * line whatever names of files are in it: control characters are written as "\x1b". A dead journal never
 * stops the daemon: the entry goes to standard error instead, and is lost when that fails too. */
#pragma once

#include <syslog.h>

#include "base/macro.h"

typedef enum LogTarget {
        LOG_TARGET_AUTO, /* the journal when standard error is connected to it, else standard error */
        LOG_TARGET_JOURNAL,
        LOG_TARGET_CONSOLE,
        _LOG_TARGET_MAX,
        _LOG_TARGET_INVALID = -EINVAL,
} LogTarget;

/* What an entry says besides its text; members that are NULL or 0 are left out. All borrowed. */
typedef struct LogFields {
        const char *message_id; /* messages.h */
        const char *overlay;    /* name */
        const char *path;       /* absolute */
        const char *method;
        uint32_t job;
        uint64_t entries;
        uint64_t duration_usec;
        uint64_t pause_usec;
        int error; /* positive errno */
} LogFields;

/* How often one cause - a place in the code - may speak: LOG_BURST times in LOG_WINDOW_USEC. What comes
 * beyond is counted, and told with the first entry after that. Level debug is exempt. */
#define LOG_BURST 200
#define LOG_WINDOW_USEC (30 * USEC_PER_SEC)

typedef struct LogLimit {
        uint64_t begin_usec; /* monotonic; 0: nothing was said yet */
        unsigned n;
        unsigned n_suppressed;
} LogLimit;

/* Whether it may speak now. *ret_suppressed: how many did not since it last might. */
bool log_limit_check(LogLimit *l, uint64_t now_usec, unsigned *ret_suppressed);

/* Levels are those of syslog(3); entries above the maximum are dropped before they are formatted. Initially
 * info. */
void log_set_max_level(int level);
int log_get_max_level(void);
void log_set_target(LogTarget t);
LogTarget log_get_target(void); /* never AUTO: where entries go */

const char *log_level_to_string(int level) _pure_;
int log_level_from_string(const char *s) _pure_; /* -EINVAL */
LogTarget log_target_from_string(const char *s) _pure_;
const char *log_target_to_string(LogTarget t) _pure_;

void log_full(
        int level,
        const LogFields *fields,
        LogLimit *limit,
        const char *file,
        int line,
        const char *func,
        const char *format,
        ...) _printf_(7, 8);

#define log_fields(level, fields, ...)                                                                      \
        ({                                                                                                  \
                static LogLimit _limit_;                                                                    \
                log_full(level, fields, &_limit_, __FILE__, __LINE__, __func__, __VA_ARGS__);               \
        })

#define log_error(...) log_fields(LOG_ERR, NULL, __VA_ARGS__)
#define log_warning(...) log_fields(LOG_WARNING, NULL, __VA_ARGS__)
#define log_notice(...) log_fields(LOG_NOTICE, NULL, __VA_ARGS__)
#define log_info(...) log_fields(LOG_INFO, NULL, __VA_ARGS__)
#define log_debug(...) log_fields(LOG_DEBUG, NULL, __VA_ARGS__)

/* The same with a negative errno for %m and ERRNO=; the value is r, so that `return log_error_errno(r, ...)`
 * works. */
#define log_full_errno(level, r, ...)                                                                       \
        ({                                                                                                  \
                int _r_ = (r);                                                                              \
                LogFields _f_ = { .error = -_r_ };                                                          \
                errno = -_r_;                                                                               \
                log_fields(level, &_f_, __VA_ARGS__);                                                       \
                _r_;                                                                                        \
        })
#define log_error_errno(r, ...) log_full_errno(LOG_ERR, r, __VA_ARGS__)
#define log_warning_errno(r, ...) log_full_errno(LOG_WARNING, r, __VA_ARGS__)
#define log_oom() log_error_errno(-ENOMEM, "Out of memory")
