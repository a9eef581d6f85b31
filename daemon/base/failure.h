/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Why an operation did not happen, in words for a person and as an identity for a program. Nothing is logged
 * or sent here: the caller does that, once. The identities are those of the D-Bus errors
 * org.ovlfind1.Error.*. The first failure stays: one that is set already is not replaced, so whoever is
 * nearest to the cause says it. */
#pragma once

#include "base/macro.h"

/* The error of a FAILURE_BUSY that passes when processes have let go of what it names them for; and of a
 * FAILURE_CANCELED of what nobody asked for, and is put off until then. */
#define FAILURE_ERROR_HELD ETXTBSY

typedef enum FailureKind {
        FAILURE_NONE,
        FAILURE_FAILED, /* anything without an identity of its own: org.freedesktop.DBus.Error.Failed */
        FAILURE_NOT_MANAGED,
        FAILURE_NO_SUCH_OVERLAY,
        FAILURE_NO_SUCH_JOB,
        FAILURE_PRECONDITION,
        FAILURE_BUSY,
        FAILURE_NO_SPACE,
        FAILURE_LOWER_UNREACHABLE,
        FAILURE_LOWER_UNPROVED, /* what stands at a layer's path may be something else */
        FAILURE_CANCELED,
        FAILURE_INVALID,
        _FAILURE_MAX,
        _FAILURE_INVALID = -EINVAL,
} FailureKind;

typedef struct Failure {
        FailureKind kind;
        int error;     /* positive errno, 0 if none applies */
        char *message; /* owned; names the path and what to do */
} Failure;

#define FAILURE_INIT                                                                                        \
        (Failure) {                                                                                         \
                0                                                                                           \
        }

/* Fills *f (unless it is NULL or already set: the first cause wins) and returns -error. error is a positive
 * errno. */
int failure_set(Failure *f, FailureKind kind, int error, const char *format, ...) _printf_(4, 5);
/* The same for a negative errno as functions return it; the kind is derived from it, ": <strerror>" is
 * appended. */
int failure_set_errno(Failure *f, int r, const char *format, ...) _printf_(3, 4);
/* strerror(), with a word for what the lower layers are not proved for (EREMCHG). */
const char *failure_errno_text(int error);
void failure_done(Failure *f);
/* Moves src into dest (if dest is not NULL and not set), leaves src empty. */
void failure_move(Failure *dest, Failure *src);

const char *
failure_kind_to_string(FailureKind k) _pure_; /* "Precondition", the tail of the D-Bus error name */
FailureKind failure_kind_from_string(const char *s) _pure_;

#define _cleanup_failure_ _cleanup_(failure_done)
