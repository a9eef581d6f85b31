/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* ovlfinctl: asks the daemon over D-Bus and prints what it says. It decides nothing about overlays itself.
 * main() parses the options, finds the verb in the table of verbs.c, and lets it do the rest. Output that
 * did not reach its reader is a failure, unless the reader went away first. */
#include <locale.h>
#include <signal.h>
#include <string.h>

#include "ctl/verbs.h"

/* Options that answer by themselves, whatever the verb. */
static const Verb *verb_choose(const Options *o, int argc, char **argv) {
        if (options_have(o, OPTION_HELP))
                return verb_find("help");
        if (options_have(o, OPTION_VERSION))
                return verb_find("version");
        return verb_find(argc > 0 ? argv[0] : "status");
}

static int dispatch(Ctl *c, int argc, char **argv) {
        _cleanup_free_ char *message = NULL;
        const Verb *v = verb_choose(&c->options, argc, argv);
        bool is_option = (c->options.given & (OPTION_HELP | OPTION_VERSION)) != 0;
        int n = argc > 0 && !is_option ? argc - 1 : 0, r;

        if (!v) {
                print_error("unknown verb '%s'; 'ovlfinctl help' lists them", argv[0]);
                return EXIT_CODE_USAGE;
        }
        if (!is_option) {
                r = verb_validate(v, n, argv + 1, &c->options, &message);
                if (r == -ENOMEM)
                        return print_oom();
                if (r < 0) {
                        print_error("%s", message);
                        return EXIT_CODE_USAGE;
                }
        }
        c->verb = v;
        return v->run(c, n, argc > 0 ? argv + 1 : argv);
}

/* An answer that did not reach its reader is a failure, unless the reader went away first. */
static int finish(Ctl *c, int code) {
        int r = term_finish(&c->term);

        if (r < 0 && r != -EPIPE) {
                print_error("cannot write the output: %s", strerror(-r));
                code = code == EXIT_CODE_OK ? EXIT_CODE_FAILURE : code;
        }
        client_done(&c->client);
        options_done(&c->options);
        return code;
}

int main(int argc, char **argv) {
        _cleanup_free_ char *message = NULL;
        Ctl c = { 0 };
        int first;

        (void) setlocale(LC_ALL, "");
        (void) signal(SIGPIPE, SIG_IGN);
        term_init(&c.term);
        first = options_parse(argc, argv, &c.options, &message);
        if (first < 0) {
                print_error("%s", first == -ENOMEM ? "out of memory" : message);
                return first == -ENOMEM ? EXIT_CODE_FAILURE : EXIT_CODE_USAGE;
        }
        c.client.endpoint = (Endpoint){
                .address = c.options.address,
                .host = c.options.host,
                .machine = c.options.machine,
        };
        if (options_have(&c.options, OPTION_NO_PAGER) || c.options.json != JSON_OFF)
                c.term.want_pager = false;
        return finish(&c, dispatch(&c, argc - first, argv + first));
}
