/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/exit-code.h"

#include <string.h>
#include <systemd/sd-bus.h>

#include "dbus/names.h"

static const struct {
        const char *name;
        ExitCode code;
} error_codes[] = {
        { OVLFIND_ERROR_PREFIX "NotManaged", EXIT_CODE_NOT_MANAGED },
        { OVLFIND_ERROR_PREFIX "NoSuchOverlay", EXIT_CODE_NOT_MANAGED },
        { SD_BUS_ERROR_ACCESS_DENIED, EXIT_CODE_NOT_PERMITTED },
        { SD_BUS_ERROR_AUTH_FAILED, EXIT_CODE_NOT_PERMITTED },
        { SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED, EXIT_CODE_NOT_PERMITTED },
        { SD_BUS_ERROR_SERVICE_UNKNOWN, EXIT_CODE_UNREACHABLE },
        { SD_BUS_ERROR_NAME_HAS_NO_OWNER, EXIT_CODE_UNREACHABLE },
        { SD_BUS_ERROR_NO_SERVER, EXIT_CODE_UNREACHABLE },
        { SD_BUS_ERROR_DISCONNECTED, EXIT_CODE_UNREACHABLE },
        /* The daemon died over the question, or hangs. */
        { SD_BUS_ERROR_NO_REPLY, EXIT_CODE_UNREACHABLE },
        { SD_BUS_ERROR_TIMEOUT, EXIT_CODE_UNREACHABLE },
        { "org.freedesktop.DBus.Error.TimedOut", EXIT_CODE_UNREACHABLE },
};

/* A bus that could not start the service answers with one of these families. */
static const char *const activation_prefixes[] = {
        "org.freedesktop.DBus.Error.Spawn.",
        "org.freedesktop.systemd1.",
};

ExitCode exit_code_from_error_name(const char *name) {
        if (!name)
                return EXIT_CODE_FAILURE;
        for (size_t i = 0; i < ELEMENTSOF(error_codes); i++)
                if (strcmp(error_codes[i].name, name) == 0)
                        return error_codes[i].code;
        for (size_t i = 0; i < ELEMENTSOF(activation_prefixes); i++)
                if (strncmp(activation_prefixes[i], name, strlen(activation_prefixes[i])) == 0)
                        return EXIT_CODE_UNREACHABLE;
        return EXIT_CODE_FAILURE;
}

ExitCode exit_code_from_failure(FailureKind k) {
        switch (k) {
        case FAILURE_NONE:
                return EXIT_CODE_OK;
        case FAILURE_NOT_MANAGED:
        case FAILURE_NO_SUCH_OVERLAY:
                return EXIT_CODE_NOT_MANAGED;
        default:
                return EXIT_CODE_FAILURE;
        }
}
