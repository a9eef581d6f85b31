/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an environment says of search paths. Pure functions of bytes that anybody may have written: what is
 * too long or malformed is passed over, and is no error. Whether there is such a directory, and on which
 * overlay, is not known here. */
#include <fnmatch.h>
#include <string.h>

#include "base/strv.h"
#include "core/paths/paths-internal.h"

/* What stands between two directories, and who searches them (NULL: anybody). */
static const struct {
        const char *name, *separators, *programs;
} variables[] = {
        { "PATH", ":", NULL },
        { "LD_LIBRARY_PATH", ":;", NULL },
        { "PYTHONPATH", ":", "@(python*|pypy*)" },
        { "PERL5LIB", ":", "perl*" },
        { "PKG_CONFIG_PATH", ":", "@(*pkg-config|*pkgconf|cmake*|meson*)" },
        { "MANPATH", ":", "@(man*|apropos|whatis)" },
        { "NODE_PATH", ":", "node*" },
        { "RUBYLIB", ":", "@(ruby*|jruby*)" },
        { "TCLLIBPATH", " {}", "@(tclsh*|wish*|expect*)" },
        { "CLASSPATH", ":", "@(java*|jshell)" },
        { "LUA_PATH", ";", "lua*" },
};

/* Takes the last component off. */
static size_t go_up(const char *path, size_t n) {
        while (n > 0 && path[n - 1] != '/')
                n--;
        return n > 0 ? n - 1 : 0;
}

static bool append(char ret[static PATH_MAX], size_t *n, const char *component, size_t length) {
        if (length == 0 || (length == 1 && component[0] == '.'))
                return true;
        if (length == 2 && component[0] == '.' && component[1] == '.') {
                *n = go_up(ret, *n);
                return true;
        }
        if (length > NAME_MAX || *n + 1 + length >= PATH_MAX)
                return false;
        ret[(*n)++] = '/';
        memcpy(ret + *n, component, length);
        *n += length;
        return true;
}

static bool append_all(char ret[static PATH_MAX], size_t *used, const char *path, size_t n) {
        for (size_t i = 0; i < n;) {
                size_t length = strcspn(path + i, "/");

                length = length < n - i ? length : n - i;
                if (!append(ret, used, path + i, length))
                        return false;
                i += length + 1;
        }
        return true;
}

/* $ORIGIN, with braces or without: how long it is. */
static size_t origin_length(const char *path, size_t n) {
        static const char *const words[] = { "$ORIGIN", "${ORIGIN}" };

        for (size_t i = 0; i < ELEMENTSOF(words); i++) {
                size_t length = strlen(words[i]);

                if (n >= length && memcmp(path, words[i], length) == 0 &&
                    (n == length || path[length] == '/'))
                        return length;
        }
        return 0;
}

bool paths_simplify(const char *path, size_t n, const char *origin, char ret[static PATH_MAX]) {
        size_t used = 0, skip = origin ? origin_length(path, n) : 0;

        if (n == 0 || (skip == 0 && path[0] != '/'))
                return false;
        if (skip > 0 && !append_all(ret, &used, origin, strlen(origin)))
                return false;
        if (!append_all(ret, &used, path + skip, n - skip))
                return false;
        ret[used] = '\0';
        return used > 0;
}

/* "/lua/?.lua" and "/jars/" + "*" are about the directory. */
static size_t without_pattern(const char *path, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (path[i] == '?' || path[i] == '*')
                        return go_up(path, i);
        return n;
}

bool paths_split(
        const char *list, const char *separators, const char *origin, paths_func func, void *userdata) {
        char path[PATH_MAX];

        for (const char *p = list; *p;) {
                size_t n = strcspn(p, separators);

                if (paths_simplify(p, without_pattern(p, n), origin, path) && !func(path, userdata))
                        return false;
                p += n;
                p += *p != '\0';
        }
        return true;
}

/* NULL: it holds no search path of this program. */
static const char *separators_of(const char *name, const char *program, char *const *patterns) {
        const char *separators = ":";

        for (size_t i = 0; i < ELEMENTSOF(variables); i++) {
                if (strcmp(variables[i].name, name) != 0)
                        continue;
                separators = variables[i].separators;
                if (!variables[i].programs || fnmatch(variables[i].programs, program, FNM_EXTMATCH) == 0)
                        return separators;
        }
        STRV_FOREACH (p, patterns)
                if (fnmatch(*p, name, 0) == 0)
                        return separators;
        return NULL;
}

void paths_from_environment(
        const char *block,
        size_t size,
        const char *program,
        char *const *patterns,
        paths_func func,
        void *userdata) {
        char name[64];

        for (const char *p = block; p < block + size; p += strlen(p) + 1) {
                size_t n = strcspn(p, "=");
                const char *separators;

                if (p[n] != '=' || n >= sizeof(name) || !strchr(p + n, '/'))
                        continue;
                memcpy(name, p, n);
                name[n] = '\0';
                separators = separators_of(name, program, patterns);
                if (separators && !paths_split(p + n + 1, separators, NULL, func, userdata))
                        return;
        }
}

void paths_from_python(const char *prefix, const char *name, paths_func func, void *userdata) {
        static const char *const below[] = { "", "/lib-dynload", "/site-packages" };
        char path[PATH_MAX];

        if (strncmp(name, "python", strlen("python")) != 0)
                return;
        for (size_t i = 0; i < ELEMENTSOF(below); i++) {
                int n = snprintf(path, sizeof(path), "%s/lib/%s%s", prefix, name, below[i]);

                if (n > 0 && (size_t) n < sizeof(path) && !func(path, userdata))
                        return;
        }
}
