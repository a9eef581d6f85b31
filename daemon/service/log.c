/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Level, target and the limits (one for each place that logs) are the only file-scope state of the daemon: a
 * log call must work before anything else exists. */
#define SD_JOURNAL_SUPPRESS_LOCATION

#include "service/log.h"

#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <systemd/sd-journal.h>

#include "base/clock.h"
#include "base/str.h"
#include "base/utf8.h"

#define MESSAGE_MAX 4096
#define FIELDS_MAX 14

static int max_level = LOG_INFO;
static LogTarget target = LOG_TARGET_CONSOLE;

static const char *const level_names[] = { "emerg",   "alert",  "crit", "err",
                                           "warning", "notice", "info", "debug" };
static const char *const target_names[_LOG_TARGET_MAX] = { "auto", "journal", "console" };

void log_set_max_level(int level) {
        max_level = level;
}

int log_get_max_level(void) {
        return max_level;
}

const char *log_level_to_string(int level) {
        return level >= 0 && level < (int) ELEMENTSOF(level_names) ? level_names[level] : NULL;
}

int log_level_from_string(const char *s) {
        for (int i = 0; i < (int) ELEMENTSOF(level_names); i++)
                if (strcmp(s, level_names[i]) == 0 || (s[0] == '0' + i && s[1] == '\0'))
                        return i;
        return -EINVAL;
}

const char *log_target_to_string(LogTarget t) {
        return t >= 0 && t < _LOG_TARGET_MAX ? target_names[t] : NULL;
}

LogTarget log_target_from_string(const char *s) {
        for (LogTarget t = 0; t < _LOG_TARGET_MAX; t++)
                if (strcmp(s, target_names[t]) == 0)
                        return t;
        return _LOG_TARGET_INVALID;
}

/* systemd names the socket that standard error was connected to; it may have been replaced since
 * (systemd.exec(5)). */
static bool stderr_is_journal(void) {
        const char *e = getenv("JOURNAL_STREAM");
        unsigned long long device, inode;
        struct stat st;

        return e && sscanf(e, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &st) >= 0 &&
                st.st_dev == device && st.st_ino == inode;
}

void log_set_target(LogTarget t) {
        if (t == LOG_TARGET_AUTO)
                t = stderr_is_journal() ? LOG_TARGET_JOURNAL : LOG_TARGET_CONSOLE;
        target = t;
}

LogTarget log_get_target(void) {
        return target;
}

typedef struct LogEntry {
        struct iovec iov[FIELDS_MAX];
        int n;
} LogEntry;

static void entry_add(LogEntry *e, const char *format, ...) _printf_(2, 3);
static void entry_add(LogEntry *e, const char *format, ...) {
        va_list ap;
        char *text;

        va_start(ap, format);
        text = str_formatv(format, ap);
        va_end(ap);
        if (text)
                e->iov[e->n++] = (struct iovec){ text, strlen(text) };
}

static void entry_add_fields(LogEntry *e, const LogFields *f) {
        if (f->message_id)
                entry_add(e, "MESSAGE_ID=%s", f->message_id);
        if (f->overlay)
                entry_add(e, "OVLFIND_OVERLAY=%s", f->overlay);
        if (f->path)
                entry_add(e, "OVLFIND_PATH=%s", f->path);
        if (f->method)
                entry_add(e, "OVLFIND_METHOD=%s", f->method);
        if (f->job > 0)
                entry_add(e, "OVLFIND_JOB=%u", (unsigned) f->job);
        if (f->entries > 0)
                entry_add(e, "OVLFIND_ENTRIES=%llu", (unsigned long long) f->entries);
        if (f->duration_usec > 0)
                entry_add(e, "OVLFIND_DURATION_USEC=%llu", (unsigned long long) f->duration_usec);
        if (f->pause_usec > 0)
                entry_add(e, "OVLFIND_PAUSE_USEC=%llu", (unsigned long long) f->pause_usec);
        if (f->error > 0)
                entry_add(e, "ERRNO=%i", f->error);
}

static void entry_done(LogEntry *e) {
        for (int i = 0; i < e->n; i++)
                free(e->iov[i].iov_base);
}

static int log_to_journal(
        int level, const LogFields *f, const char *file, int line, const char *func, const char *message) {
        _cleanup_(entry_done) LogEntry e = { 0 };

        entry_add(&e, "MESSAGE=%s", message);
        entry_add(&e, "PRIORITY=%i", level);
        entry_add(&e, "CODE_FILE=%s", file);
        entry_add(&e, "CODE_LINE=%i", line);
        entry_add(&e, "CODE_FUNC=%s", func);
        if (f)
                entry_add_fields(&e, f);
        return sd_journal_sendv(e.iov, e.n);
}

static void log_to_stderr(int level, const char *message) {
        if (stderr_is_journal())
                (void) dprintf(STDERR_FILENO, "<%i>%s\n", level, message);
        else
                (void) dprintf(STDERR_FILENO, "%s\n", message);
}

bool log_limit_check(LogLimit *l, uint64_t now_usec, unsigned *ret_suppressed) {
        *ret_suppressed = 0;
        if (l->begin_usec == 0 || now_usec >= l->begin_usec + LOG_WINDOW_USEC) {
                *ret_suppressed = l->n_suppressed;
                *l = (LogLimit){ .begin_usec = now_usec };
        }
        if (l->n >= LOG_BURST) {
                l->n_suppressed++;
                return false;
        }
        l->n++;
        return true;
}

static void log_message(
        int level, const LogFields *fields, const char *file, int line, const char *func, const char *text) {
        _cleanup_free_ char *escaped = utf8_escape(text),
                            *shown = escaped ? utf8_escape_line(escaped) : NULL;
        const char *message = shown ?: "out of memory";

        if (target != LOG_TARGET_JOURNAL || log_to_journal(level, fields, file, line, func, message) < 0)
                log_to_stderr(level, message);
}

void log_full(
        int level,
        const LogFields *fields,
        LogLimit *limit,
        const char *file,
        int line,
        const char *func,
        const char *format,
        ...) {
        char message[MESSAGE_MAX];
        unsigned n_suppressed = 0;
        int saved = errno;
        va_list ap;

        if (level > max_level ||
            (level < LOG_DEBUG && !log_limit_check(limit, now_monotonic_usec(), &n_suppressed)))
                return;
        if (n_suppressed > 0) {
                (void) snprintf(
                        message, sizeof(message), "Suppressed %u message%s like the next one", n_suppressed,
                        PLURAL(n_suppressed));
                log_message(level, NULL, file, line, func, message);
        }
        va_start(ap, format);
        (void) vsnprintf(message, sizeof(message), format, ap);
        va_end(ap);
        log_message(level, fields, file, line, func, message);
        errno = saved;
}
