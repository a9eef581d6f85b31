/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The method Remount(). Its options are decoded here, and refused where they contradict each other. That
 * the overlay can be remounted at all, and whether a job waits already that does the same, the manager
 * says. */
#include <string.h>

#include "api/bus-internal.h"

static int read_method(sd_bus_message *message, RemountMethod *ret, Failure *reterr) {
        const char *method;
        int r = sd_bus_message_read(message, "v", "s", &method);

        if (r < 0)
                return r;
        *ret = remount_method_from_string(method);
        return *ret >= 0 ? 0
                         : failure_set(
                                   reterr, FAILURE_INVALID, EINVAL,
                                   "unknown method '%s'; use reconfigure or swap", method);
}

static int read_option(sd_bus_message *message, const char *key, void *userdata, Failure *reterr) {
        JobOptions *options = userdata;

        if (strcmp(key, "dry-run") == 0)
                return bus_read_flag(message, &options->is_dry_run);
        if (strcmp(key, "force") == 0)
                return bus_read_flag(message, &options->is_forced);
        if (strcmp(key, "method") == 0)
                return read_method(message, &options->remount, reterr);
        if (strcmp(key, "set") == 0)
                return sd_bus_message_read(message, "v", "s", &options->set);
        return failure_set(reterr, FAILURE_INVALID, EINVAL, "unknown option '%s'", key);
}

static int read_options(sd_bus_message *message, JobOptions *options, Failure *reterr) {
        int r;

        options->remount = _REMOUNT_METHOD_INVALID;
        r = bus_read_options(message, read_option, options, reterr);
        if (r < 0)
                return r;
        if (options->remount < 0)
                options->remount = options->set ? REMOUNT_SWAP : REMOUNT_RECONFIGURE;
        if (options->set && options->remount != REMOUNT_SWAP)
                return failure_set(
                        reterr, FAILURE_INVALID, EINVAL,
                        "the kernel changes no option of an overlay that is mounted: use method 'swap' with "
                        "'set'");
        return 0;
}

int bus_method_remount(sd_bus_message *message, Manager *m, sd_bus_error *error) {
        _cleanup_failure_ Failure failure = FAILURE_INIT;
        JobOptions options = { .uid = bus_auth_get_caller(m) };
        const char *overlay;
        Job *j;
        int r = sd_bus_message_read(message, "s", &overlay);

        if (r >= 0)
                r = read_options(message, &options, &failure);
        if (r >= 0)
                r = manager_add_remount(m, overlay, &options, &j, &failure);
        if (r < 0)
                return failure.kind != FAILURE_NONE ? bus_error_from_failure(error, &failure) : r;
        return bus_reply_job(m, message, j);
}
