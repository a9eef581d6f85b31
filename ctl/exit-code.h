/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The exit status of ovlfinctl, as ovlfinctl(1) documents it. It is told by the name of a D-Bus error or by
 * the kind of a failure, never by a text, and nothing is printed here. What is not known is a failure, never
 * success. */
#pragma once

#include "base/failure.h"

typedef enum ExitCode {
        EXIT_CODE_OK,
        EXIT_CODE_FAILURE,
        EXIT_CODE_USAGE,
        EXIT_CODE_UNREACHABLE,   /* the daemon cannot be reached */
        EXIT_CODE_NOT_MANAGED,   /* the path or overlay is not known or not managed */
        EXIT_CODE_NOT_PERMITTED, /* the caller may not do this */
} ExitCode;

/* Any other name, and NULL, is EXIT_CODE_FAILURE. */
ExitCode exit_code_from_error_name(const char *name) _pure_;
/* The same for what a worker started by ovlfinctl itself says. */
ExitCode exit_code_from_failure(FailureKind k) _pure_;
