/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How a check says what it has found: level, text and advice. It looks at nothing itself. A probe that could
 * not be made is never "ok": check_cannot_tell() makes it a warning or a failure. */
#include <stdarg.h>
#include <string.h>

#include "base/str.h"
#include "core/check/check-internal.h"

static int _printf_(2, 0) set_text(char **ret, const char *format, va_list ap) {
        free(*ret);
        *ret = str_formatv(format, ap);
        return *ret ? 0 : -ENOMEM;
}

int check_say(Check *f, CheckLevel level, const char *format, ...) {
        va_list ap;
        int r;

        va_start(ap, format);
        r = set_text(&f->text, format, ap);
        va_end(ap);
        f->level = level;
        return r;
}

int check_advise(Check *f, const char *format, ...) {
        va_list ap;
        int r;

        va_start(ap, format);
        r = set_text(&f->advice, format, ap);
        va_end(ap);
        return r;
}

int check_cannot_tell(Check *f, int error, const char *what) {
        bool unprivileged = (error == EPERM || error == EACCES) && geteuid() != 0;

        if (error == ENOSPC || error == EDQUOT) /* a job that needs space says so itself */
                return check_say(f, CHECK_WARNING, "cannot %s: %s", what, strerror(error))
                        ?: check_advise(f, "make room on the file system of the upper layer");

        return check_say(
                       f, unprivileged ? CHECK_WARNING : CHECK_FAIL, "cannot %s: %s", what, strerror(error))
                ?: check_advise(f, unprivileged ? "run the check as root" : "find out why, and try again");
}
