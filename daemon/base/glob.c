/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/glob.h"

#include <fnmatch.h>
#include <limits.h>
#include <string.h>

#include "base/path-util.h"

#define BIT(i) ((GlobState) 1 << (i))

static int add_position(Globs *g, const char *component, bool is_start) {
        char *copy = component ? strdup(component) : NULL;

        if (component && !copy)
                return -ENOMEM;
        if (g->n >= GLOB_POSITIONS_MAX) {
                free(copy);
                return -E2BIG;
        }
        if (is_start)
                g->is_start |= BIT(g->n);
        if (!component)
                g->ends |= BIT(g->n);
        else if (strcmp(component, "**") == 0)
                g->is_any |= BIT(g->n);
        g->components[g->n++] = copy;
        return 0;
}

static int add_pattern(Globs *g, const char *pattern) {
        _cleanup_free_ char *copy = strdup(pattern);
        bool is_start = true;
        char *state;
        int r;

        if (!copy)
                return -ENOMEM;
        if (copy[0] == '/' || path_simplify(copy) < 0)
                return -EINVAL;
        for (char *c = strtok_r(copy, "/", &state); c; c = strtok_r(NULL, "/", &state)) {
                r = add_position(g, c, is_start);
                if (r < 0)
                        return r;
                is_start = false;
        }
        return add_position(g, NULL, is_start);
}

int globs_new(char *const *patterns, Globs *ret) {
        _cleanup_(globs_done) Globs g = { .components = calloc(GLOB_POSITIONS_MAX, sizeof(char *)) };
        int r;

        if (!g.components)
                return -ENOMEM;
        for (; patterns && *patterns; patterns++) {
                r = add_pattern(&g, *patterns);
                if (r < 0)
                        return r;
        }
        *ret = g;
        g = (Globs){ 0 };
        return 0;
}

void globs_done(Globs *g) {
        for (unsigned i = 0; i < g->n; i++)
                free(g->components[i]);
        free(g->components);
        *g = (Globs){ 0 };
}

/* "**" may stand for nothing: whoever is before it is behind it as well. */
static GlobState skip_any(const Globs *g, GlobState s) {
        for (unsigned i = 0; i < g->n; i++)
                if (s & g->is_any & BIT(i))
                        s |= BIT(i + 1);
        return s;
}

GlobState globs_begin(const Globs *g) {
        return skip_any(g, g->is_start);
}

GlobState globs_step(const Globs *g, GlobState s, const char *name) {
        GlobState next = 0;

        for (unsigned i = 0; i < g->n; i++) {
                if (!(s & BIT(i)) || !g->components[i])
                        continue;
                if (g->is_any & BIT(i))
                        next |= BIT(i);
                else if (fnmatch(g->components[i], name, 0) == 0)
                        next |= BIT(i + 1);
        }
        return skip_any(g, next);
}

/* How much of path matches, at the first place where something does, or, whole, only all of it. */
static ssize_t match(const Globs *g, const char *path, bool whole) {
        GlobState s = globs_begin(g);
        char name[NAME_MAX + 1];
        const char *p = path;

        while (!globs_is_match(g, s) || (whole && *p)) {
                size_t n = strcspn(p, "/");

                if (s == 0 || !*p || n > NAME_MAX)
                        return -ENOENT;
                memcpy(name, p, n);
                name[n] = '\0';
                s = globs_step(g, s, name);
                p += n + (p[n] == '/');
        }
        return p - path - (p > path && p[-1] == '/');
}

ssize_t globs_match_prefix(const Globs *g, const char *path) {
        return match(g, path, /* whole= */ false);
}

bool globs_match(const Globs *g, const char *path) {
        return match(g, path, /* whole= */ true) >= 0;
}
