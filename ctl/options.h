/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The command line's options as a plain value, from one table that --help, the completions and the manual
 * are held against. What they mean, and which verb takes which, is the verbs' affair (verbs.h). A value
 * that cannot be read is refused before anything is asked of the daemon. */
#pragma once

#include "base/macro.h"

typedef enum JsonFormat {
        JSON_OFF,
        JSON_SHORT,  /* one line */
        JSON_PRETTY, /* indented */
} JsonFormat;

/* Bits, so that the verb table can say which options a verb takes. */
typedef enum OptionId {
        OPTION_HELP = 1 << 0,
        OPTION_VERSION = 1 << 1,
        OPTION_JSON = 1 << 2,
        OPTION_NO_LEGEND = 1 << 3,
        OPTION_NO_PAGER = 1 << 4,
        OPTION_QUIET = 1 << 5,
        OPTION_ADDRESS = 1 << 6,
        OPTION_NO_BLOCK = 1 << 7,
        OPTION_METHOD = 1 << 8,
        OPTION_DEPTH = 1 << 9,
        OPTION_PARENTS = 1 << 10,
        OPTION_DATA = 1 << 11,
        OPTION_DRY_RUN = 1 << 12,
        OPTION_FORCE = 1 << 13,
        OPTION_STATE = 1 << 14,
        OPTION_RESET = 1 << 15,
        OPTION_OFFLINE = 1 << 16,
        OPTION_UPPER = 1 << 17,
        OPTION_LOWER = 1 << 18,
        OPTION_SET = 1 << 19,
        OPTION_ITERATIONS = 1 << 20,
        OPTION_BATCH = 1 << 21,
        OPTION_REPAIR = 1 << 22,
        OPTION_WORK = 1 << 23,
        OPTION_STANDING = 1 << 24,
        OPTION_HOST = 1 << 25,
        OPTION_MACHINE = 1 << 26,
        OPTION_SORT = 1 << 27,
} OptionId;

#define OPTIONS_COMMON                                                                                      \
        (OPTION_HELP | OPTION_VERSION | OPTION_JSON | OPTION_NO_LEGEND | OPTION_NO_PAGER | OPTION_QUIET |   \
         OPTION_ADDRESS | OPTION_HOST | OPTION_MACHINE)
/* Whose daemon is asked: one of them at most. */
#define OPTIONS_BUS (OPTION_ADDRESS | OPTION_HOST | OPTION_MACHINE)
/* About files of this machine. */
#define OPTIONS_LOCAL (OPTION_OFFLINE | OPTION_UPPER | OPTION_LOWER | OPTION_WORK)
#define OPTION_DATA_DEFAULT (UINT64_C(1) << 20) /* --data without a size, bytes */

typedef struct Options {
        unsigned given; /* OptionId bits */
        JsonFormat json;
        const char *address; /* borrowed from argv, as are the other strings */
        const char *host;
        const char *machine;
        const char *method;
        const char *standing;
        const char *sort;
        const char *set; /* as given; the daemon understands it */
        const char *upper;
        const char *lower; /* as in lowerdir= */
        uint32_t iterations;
        uint32_t depth;
        uint64_t data_bytes;
        const char *work;
        const char **states; /* n_states borrowed arguments of --state=, each may hold commas */
        size_t n_states;
} Options;

typedef struct OptionInfo {
        OptionId id;
        const char *name;     /* without "--" */
        char short_name;      /* 0 for none */
        int has_argument;     /* as getopt_long(3) wants it */
        const char *argument; /* for --help; NULL without one */
        const char *help;
        /* What takes the argument; NULL has it kept as it is, at the offset. *reterr is one line. */
        int (*parse)(Options *o, const char *argument, char **reterr);
        size_t offset;
} OptionInfo;

extern const OptionInfo option_table[];
extern const size_t n_options;

static inline bool options_have(const Options *o, OptionId id) {
        return (o->given & id) != 0;
}

/* Whether the word is in one of the --state= lists; true when none was given. */
bool options_want_state(const Options *o, const char *state) _pure_;

/* Every word of --state= must pass is_state; known lists the words for the message. 0, or the exit code
 * after it. */
int options_validate_states(const Options *o, bool (*is_state)(const char *), const char *known);

/* Parses argv[1..argc-1], which getopt_long(3) sorts so that what is no option comes last. Returns the index
 * of the first of those (argc if there is none), -EINVAL with *reterr set to one line that says what is
 * wrong (owned by the caller), or -ENOMEM. Not for threads: getopt's state is global. */
int options_parse(int argc, char **argv, Options *ret, char **reterr);
void options_done(Options *o);
