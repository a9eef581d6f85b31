/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/failure.h"

#include <stdarg.h>
#include <string.h>

#include "base/str.h"

static const char *const kind_names[_FAILURE_MAX] = {
        [FAILURE_NONE] = "None",
        [FAILURE_FAILED] = "Failed",
        [FAILURE_NOT_MANAGED] = "NotManaged",
        [FAILURE_NO_SUCH_OVERLAY] = "NoSuchOverlay",
        [FAILURE_NO_SUCH_JOB] = "NoSuchJob",
        [FAILURE_PRECONDITION] = "Precondition",
        [FAILURE_BUSY] = "Busy",
        [FAILURE_NO_SPACE] = "NoSpace",
        [FAILURE_LOWER_UNREACHABLE] = "LowerUnreachable",
        [FAILURE_LOWER_UNPROVED] = "LowerUnproved",
        [FAILURE_CANCELED] = "Canceled",
        [FAILURE_INVALID] = "Invalid",
};

const char *failure_kind_to_string(FailureKind k) {
        if (k < 0 || k >= _FAILURE_MAX)
                return "Failed";
        return kind_names[k];
}

FailureKind failure_kind_from_string(const char *s) {
        for (FailureKind k = 0; k < _FAILURE_MAX; k++)
                if (s && strcmp(kind_names[k], s) == 0)
                        return k;
        return _FAILURE_INVALID;
}

/* ESTALE, EIO and timeouts are what a network lower answers when the server is away (nfs(5)). */
static FailureKind kind_from_errno(int error) {
        static const FailureKind kinds[] = {
                [ENOSPC] = FAILURE_NO_SPACE,
                [EDQUOT] = FAILURE_NO_SPACE,
                [EIO] = FAILURE_LOWER_UNREACHABLE,
                [ESTALE] = FAILURE_LOWER_UNREACHABLE,
                [ETIMEDOUT] = FAILURE_LOWER_UNREACHABLE,
                [EHOSTDOWN] = FAILURE_LOWER_UNREACHABLE,
                [EHOSTUNREACH] = FAILURE_LOWER_UNREACHABLE,
                [ENOTCONN] = FAILURE_LOWER_UNREACHABLE,
                [ECONNABORTED] = FAILURE_LOWER_UNREACHABLE,
                [EREMCHG] = FAILURE_LOWER_UNPROVED,
                [ECANCELED] = FAILURE_CANCELED,
                [EBUSY] = FAILURE_BUSY,
                [ETXTBSY] = FAILURE_BUSY,
                [EAGAIN] = FAILURE_BUSY,
                [EROFS] = FAILURE_PRECONDITION,
                [EOPNOTSUPP] = FAILURE_PRECONDITION,
                [ENOENT] = FAILURE_INVALID,
                [ENOTDIR] = FAILURE_INVALID,
                [EINVAL] = FAILURE_INVALID,
                [ELOOP] = FAILURE_INVALID,
                [ENAMETOOLONG] = FAILURE_INVALID,
        };

        return error > 0 && error < (int) ELEMENTSOF(kinds) && kinds[error] != FAILURE_NONE ? kinds[error]
                                                                                            : FAILURE_FAILED;
}

/* strerror() has no word for it. */
const char *failure_errno_text(int error) {
        return error == EREMCHG ? "it is not proved that the overlay shows the same" : strerror(error);
}

static _printf_(5, 0) void failure_setv(
        Failure *f, FailureKind kind, int error, const char *suffix, const char *format, va_list ap) {
        _cleanup_free_ char *text = NULL;

        if (!f || f->kind != FAILURE_NONE)
                return;
        f->kind = kind;
        f->error = error;
        text = str_formatv(format, ap);
        f->message = text && suffix ? str_format("%s: %s", text, suffix) : NULL;
        if (!f->message)
                f->message = TAKE_PTR(text);
}

int failure_set(Failure *f, FailureKind kind, int error, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        failure_setv(f, kind, error, NULL, format, ap);
        va_end(ap);
        return error > 0 ? -error : -EIO;
}

int failure_set_errno(Failure *f, int r, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        failure_setv(f, kind_from_errno(-r), -r, failure_errno_text(-r), format, ap);
        va_end(ap);
        return r;
}

void failure_done(Failure *f) {
        free(f->message);
        *f = FAILURE_INIT;
}

void failure_move(Failure *dest, Failure *src) {
        if (dest && dest->kind == FAILURE_NONE) {
                *dest = *src;
                *src = FAILURE_INIT;
        } else
                failure_done(src);
}
