/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* ovlfind: parses the command line, sets the manager up, connects to the bus, and runs the loop until it is
 * told to end. It reads no configuration, knows no overlay, and does not fork. What went wrong has been
 * logged by whoever met it; here it only makes the exit status. */
#include <getopt.h>

#include "api/bus.h"
#include "manager/manager.h"
#include "service/log.h"

static int help(void) {
        printf("ovlfind [OPTIONS...]\n\n"
               "Keeps lookups of absent names in overlay mounts off their lower layers.\n\n"
               "     --log-level=LEVEL    emerg, alert, crit, err, warning, notice, info, debug\n"
               "     --log-target=TARGET  auto, journal, console\n"
               "  -h --help               Show this help\n"
               "     --version            Show the version\n\n"
               "Runs in the foreground. ovlfinctl talks to it; see ovlfind(8).\n");
        return 0;
}

static int version(void) {
        printf("ovlfind %s\n", OVLFIND_VERSION);
        return 0;
}

static int usage_error(const char *what, const char *value) {
        fprintf(stderr, "ovlfind: %s '%s', try --help\n", what, value);
        return -EINVAL;
}

/* 1: go on, 0: all said, -EINVAL: it has been reported. */
static int parse_argv(int argc, char *argv[]) {
        enum {
                ARG_VERSION = 0x100,
                ARG_LOG_LEVEL,
                ARG_LOG_TARGET,
        };
        static const struct option options[] = {
                { "help", no_argument, NULL, 'h' },
                { "version", no_argument, NULL, ARG_VERSION },
                { "log-level", required_argument, NULL, ARG_LOG_LEVEL },
                { "log-target", required_argument, NULL, ARG_LOG_TARGET },
                { 0 },
        };
        int c, r;

        while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0)
                switch (c) {
                case 'h':
                        return help();
                case ARG_VERSION:
                        return version();
                case ARG_LOG_LEVEL:
                        r = log_level_from_string(optarg);
                        if (r < 0)
                                return usage_error("unknown log level", optarg);
                        log_set_max_level(r);
                        break;
                case ARG_LOG_TARGET:
                        r = log_target_from_string(optarg);
                        if (r < 0)
                                return usage_error("unknown log target", optarg);
                        log_set_target((LogTarget) r);
                        break;
                default:
                        return -EINVAL; /* getopt has said why */
                }
        return optind < argc ? usage_error("no arguments are taken, but there is", argv[optind]) : 1;
}

static int run(void) {
        _cleanup_(manager_freep) Manager *m = NULL;
        int r = manager_new(&m);

        if (r < 0)
                return log_error_errno(r, "Cannot set up: %m");
        r = manager_startup(m);
        if (r >= 0)
                r = bus_open(m);
        if (r >= 0 && (r = sd_event_loop(m->host.event)) < 0)
                (void) log_error_errno(r, "Ending: %m");
        bus_close(m);
        return r;
}

int main(int argc, char *argv[]) {
        int r;

        log_set_target(LOG_TARGET_AUTO);
        r = parse_argv(argc, argv);
        if (r <= 0)
                return r < 0 ? 2 : 0;
        return run() < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
