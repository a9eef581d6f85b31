/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Patterns against a model that goes through them recursively. Input: path, then patterns, each ended by
 * NUL. */
#include <fnmatch.h>
#include <limits.h>
#include <string.h>

#include "base/glob.h"
#include "base/path-util.h"
#include "fuzz.h"

#define PATTERNS_MAX 4
#define PARTS_MAX 12 /* the model takes time exponential in that */

static size_t split(char *s, char **parts) {
        size_t n = 0;
        char *state;

        for (char *p = strtok_r(s, "/", &state); p && n < PARTS_MAX; p = strtok_r(NULL, "/", &state))
                parts[n++] = p;
        return n;
}

static bool model(char *const *pattern, size_t n_pattern, char *const *path, size_t n_path) {
        if (n_pattern == 0)
                return n_path == 0;
        if (strcmp(pattern[0], "**") == 0)
                return model(pattern + 1, n_pattern - 1, path, n_path) ||
                        (n_path > 0 && model(pattern, n_pattern, path + 1, n_path - 1));
        return n_path > 0 && fnmatch(pattern[0], path[0], 0) == 0 &&
                model(pattern + 1, n_pattern - 1, path + 1, n_path - 1);
}

static bool model_within(const char *pattern, const char *path) {
        _cleanup_free_ char *p = strdup(pattern), *s = strdup(path);
        char *patterns[PARTS_MAX], *names[PARTS_MAX];
        size_t n_patterns, n_names;

        (void) path_simplify(p);
        n_patterns = split(p, patterns);
        n_names = split(s, names);
        for (size_t n = 0; n <= n_names; n++)
                if (model(patterns, n_patterns, names, n))
                        return true;
        return false;
}

/* Within what the model has time for, and names that a file can have. */
static bool is_small(const char *s) {
        size_t parts = 1;

        for (const char *p = s; *p; p++)
                parts += *p == '/';
        return parts <= PARTS_MAX && strlen(s) <= NAME_MAX;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        Input in = input_begin(data, size);
        _cleanup_(globs_done) Globs g = { 0 };
        _cleanup_free_ char *path = input_string(&in);
        char *patterns[PATTERNS_MAX + 1] = { NULL };
        bool expected = false, small = is_small(path) && path_simplify(path) >= 0 && path[0] != '/';
        int r;

        for (size_t n = 0; n < PATTERNS_MAX && !input_is_empty(&in); n++) {
                patterns[n] = input_string(&in);
                small &= is_small(patterns[n]);
        }
        r = globs_new(patterns, &g);
        HOLDS(r == 0 || r == -EINVAL || r == -E2BIG);
        if (r == 0 && small) {
                for (size_t i = 0; patterns[i]; i++)
                        expected |= model_within(patterns[i], path);
                HOLDS(globs_match_within(&g, path) == expected);
        }
        for (size_t i = 0; patterns[i]; i++)
                free(patterns[i]);
        return 0;
}
