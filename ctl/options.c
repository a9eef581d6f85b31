/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/options.h"

#include <getopt.h>
#include <stdarg.h>
#include <string.h>

#include "base/states.h"
#include "base/str.h"
#include "ctl/exit-code.h"
#include "ctl/format.h"
#include "ctl/term.h"

#define LONG_ONLY 256 /* above any short option's character */

/* Sets *reterr to one line; -EINVAL or -ENOMEM. */
static _printf_(2, 3) int complain(char **reterr, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        *reterr = str_formatv(format, ap);
        va_end(ap);
        return *reterr ? -EINVAL : -ENOMEM;
}

static int parse_json(Options *o, const char *s, char **reterr) {
        if (strcmp(s, "off") == 0)
                o->json = JSON_OFF;
        else if (strcmp(s, "short") == 0)
                o->json = JSON_SHORT;
        else if (strcmp(s, "pretty") == 0)
                o->json = JSON_PRETTY;
        else
                return complain(reterr, "unknown JSON mode '%s': it is short, pretty or off", s);
        return 0;
}

static int parse_host(Options *o, const char *s, char **reterr) {
        o->host = s;
        return *s ? 0 : complain(reterr, "--host= wants [USER@]HOST, and got nothing");
}

static int parse_machine(Options *o, const char *s, char **reterr) {
        o->machine = s;
        return *s ? 0 : complain(reterr, "--machine= wants the name of a container, and got nothing");
}

static int parse_method(Options *o, const char *s, char **reterr) {
        o->method = s;
        if (method_from_string(s) >= 0 || remount_method_from_string(s) >= 0)
                return 0;
        return complain(
                reterr, "unknown method '%s': it is auto, exchange or mark; of remount, reconfigure or swap",
                s);
}

static int parse_standing(Options *o, const char *s, char **reterr) {
        o->standing = s;
        return standing_from_string(s) >= 0
                ? 0
                : complain(reterr, "--standing= is auto, keep or wait, not '%s'", s);
}

static int parse_sort(Options *o, const char *s, char **reterr) {
        static const char *const columns[] = { "misses", "heat", "opens", "saved" };

        o->sort = s;
        for (size_t i = 0; i < ELEMENTSOF(columns); i++)
                if (strcmp(s, columns[i]) == 0)
                        return 0;
        return complain(reterr, "--sort= is misses, heat, opens or saved, not '%s'", s);
}

static int parse_depth(Options *o, const char *s, char **reterr) {
        return parse_u32(s, &o->depth) >= 0 ? 0 : complain(reterr, "--depth= wants a number, not '%s'", s);
}

static int parse_iterations(Options *o, const char *s, char **reterr) {
        return parse_u32(s, &o->iterations) >= 0 && o->iterations > 0
                ? 0
                : complain(reterr, "--iterations= wants a number above 0, not '%s'", s);
}

static int parse_data(Options *o, const char *s, char **reterr) {
        o->data_bytes = s && strcmp(s, "all") == 0 ? UINT64_MAX : OPTION_DATA_DEFAULT;
        if (!s || o->data_bytes == UINT64_MAX || parse_size(s, &o->data_bytes) >= 0)
                return 0;
        return complain(reterr, "--data= wants a size such as 64K or 1M, or all, not '%s'", s);
}

static int add_states(Options *o, const char *s, char **reterr) {
        if (!ARRAY_GROW(o->states, o->n_states))
                return -ENOMEM;
        o->states[o->n_states++] = s;
        return 0;
}

bool options_want_state(const Options *o, const char *state) {
        size_t n = strlen(state);

        for (size_t i = 0; i < o->n_states; i++)
                for (const char *p = o->states[i]; p; p = strchr(p, ',')) {
                        p += *p == ',';
                        if (strncmp(p, state, n) == 0 && (p[n] == '\0' || p[n] == ','))
                                return true;
                }
        return o->n_states == 0;
}

int options_validate_states(const Options *o, bool (*is_state)(const char *), const char *known) {
        for (size_t i = 0; i < o->n_states; i++) {
                _cleanup_free_ char *copy = strdup(o->states[i]);
                char *state = NULL;

                if (!copy)
                        return print_oom();
                for (char *s = strtok_r(copy, ",", &state); s; s = strtok_r(NULL, ",", &state))
                        if (!is_state(s)) {
                                print_error("unknown state '%s'; it is one of %s", s, known);
                                return EXIT_CODE_USAGE;
                        }
        }
        return 0;
}

const OptionInfo option_table[] = {
        { OPTION_HELP, "help", 'h', no_argument, NULL, "Show this help" },
        { OPTION_VERSION, "version", 0, no_argument, NULL, "Show the version" },
        { OPTION_JSON, "json", 0, required_argument, "MODE", "Print JSON: short, pretty or off",
          parse_json },
        { OPTION_NO_LEGEND, "no-legend", 0, no_argument, NULL, "Print no headers and footers" },
        { OPTION_NO_PAGER, "no-pager", 0, no_argument, NULL, "Do not pipe output into a pager" },
        { OPTION_QUIET, "quiet", 'q', no_argument, NULL, "Print neither progress nor summary" },
        { OPTION_ADDRESS, "address", 0, required_argument, "ADDRESS", "Use another bus than the system bus",
          NULL, offsetof(Options, address) },
        { OPTION_HOST, "host", 'H', required_argument, "[USER@]HOST",
          "Ask the daemon of another host, by ssh", parse_host },
        { OPTION_MACHINE, "machine", 'M', required_argument, "NAME", "Ask the daemon of a local container",
          parse_machine },
        { OPTION_NO_BLOCK, "no-block", 0, no_argument, NULL, "Print the job and do not wait for it" },
        { OPTION_METHOD, "method", 0, required_argument, "METHOD",
          "How: auto, exchange, mark; reconfigure, swap", parse_method },
        { OPTION_STANDING, "standing", 0, required_argument, "HOW",
          "While processes stand there: auto, keep, wait", parse_standing },
        { OPTION_DEPTH, "depth", 0, required_argument, "N", "Levels below PATH, 0 for PATH alone",
          parse_depth },
        { OPTION_PARENTS, "parents", 0, no_argument, NULL, "The ancestors of PATH, too" },
        { OPTION_DATA, "data", 0, optional_argument, "SIZE|all",
          "Also copy up data of files up to SIZE (1M)", parse_data },
        { OPTION_DRY_RUN, "dry-run", 0, no_argument, NULL, "Only show what would be done" },
        { OPTION_FORCE, "force", 0, no_argument, NULL, "Go on where the outcome is not certain" },
        { OPTION_SET, "set", 0, required_argument, "OPTION=VALUE,…", "Options of the overlay to swap in",
          NULL, offsetof(Options, set) },
        { OPTION_STATE, "state", 0, required_argument, "STATE,…", "Only those in one of these states",
          add_states },
        { OPTION_ITERATIONS, "iterations", 'n', required_argument, "N", "Look so many times, a second apart",
          parse_iterations },
        { OPTION_SORT, "sort", 0, required_argument, "COLUMN", "By misses, heat, opens or saved",
          parse_sort },
        { OPTION_BATCH, "batch", 'b', no_argument, NULL, "Print one below the other" },
        { OPTION_RESET, "reset", 0, no_argument, NULL, "Also drop mere copies (with --offline)" },
        { OPTION_REPAIR, "repair", 0, no_argument, NULL, "Mend what can be mended without a loss" },
        { OPTION_OFFLINE, "offline", 0, no_argument, NULL, "Work on an overlay that is not mounted:" },
        { OPTION_UPPER, "upper", 0, required_argument, "DIR", "  its upper layer", NULL,
          offsetof(Options, upper) },
        { OPTION_LOWER, "lower", 0, required_argument, "DIR[:DIR…]",
          "  its lower layers, as in lowerdir=", NULL, offsetof(Options, lower) },
        { OPTION_WORK, "work", 0, required_argument, "DIR", "The work directory, with --offline", NULL,
          offsetof(Options, work) },
};
const size_t n_options = ELEMENTSOF(option_table);

static int option_apply(Options *o, const OptionInfo *i, const char *argument, char **reterr) {
        o->given |= i->id;
        if (i->parse)
                return i->parse(o, argument, reterr);
        if (i->has_argument != no_argument)
                *(const char **) ((char *) o + i->offset) = argument;
        return 0;
}

/* The table in getopt's words. value of a long option is LONG_ONLY + its index; a short one is found by its
 * character. */
static void getopt_tables(struct option *ret_long, char *ret_short) {
        char *s = ret_short;

        *s++ = ':';
        for (size_t i = 0; i < n_options; i++) {
                ret_long[i] = (struct option){
                        .name = option_table[i].name,
                        .has_arg = option_table[i].has_argument,
                        .val = LONG_ONLY + (int) i,
                };
                if (option_table[i].short_name == 0)
                        continue;
                *s++ = option_table[i].short_name;
                if (option_table[i].has_argument == required_argument)
                        *s++ = ':';
        }
        ret_long[n_options] = (struct option){ 0 };
        *s = '\0';
}

static const OptionInfo *option_find(int value) {
        for (size_t i = 0; i < n_options; i++)
                if (value == LONG_ONLY + (int) i || (value != 0 && value == option_table[i].short_name))
                        return &option_table[i];
        return NULL;
}

static int refuse(int value, char **argv, char **reterr) {
        const OptionInfo *o = option_find(optopt);

        if (value == ':')
                return complain(reterr, "option --%s wants an argument", o ? o->name : "?");
        if (o)
                return complain(reterr, "option --%s takes no argument", o->name);
        if (optopt != 0)
                return complain(reterr, "unknown option '-%c'", optopt);
        return complain(reterr, "unknown option '%s'", argv[optind - 1]);
}

int options_parse(int argc, char **argv, Options *ret, char **reterr) {
        struct option long_options[ELEMENTSOF(option_table) + 1];
        char short_options[2 * ELEMENTSOF(option_table) + 2];
        Options o = { 0 };
        int r = 0, value;

        getopt_tables(long_options, short_options);
        optind = 0; /* glibc's way of saying: anew */
        opterr = 0;
        while (r >= 0 && (value = getopt_long(argc, argv, short_options, long_options, NULL)) >= 0) {
                const OptionInfo *i = value == ':' || value == '?' ? NULL : option_find(value);

                r = i ? option_apply(&o, i, optarg, reterr) : refuse(value, argv, reterr);
        }
        if (r < 0) {
                options_done(&o);
                return r;
        }
        *ret = o;
        return optind;
}

void options_done(Options *o) {
        free(o->states);
        *o = (Options){ 0 };
}
