/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The library inih tells sections and keys apart. It keeps 200 characters of a line and counts no lines, so
 * the reader given to it hands over the key only, and keeps value and line number for the handler, which is
 * called right after. */
#include "config/config-file.h"

#include <ctype.h>
#include <ini.h>
#include <string.h>
#include <sys/stat.h>

#include "base/path-util.h"
#include "base/str.h"
#include "base/strv.h"

/* 1: there and wanted, 0: masked, -ENOENT. */
static int config_file_is_wanted(const char *path) {
        struct stat st;

        if (stat(path, &st) < 0)
                return -errno;
        return S_ISREG(st.st_mode) && st.st_size > 0;
}

int config_file_find(char *const *folders, const char *name, char **ret) {
        STRV_FOREACH (folder, folders) {
                _cleanup_free_ char *path = path_join(*folder, name);
                int r;

                if (!path)
                        return -ENOMEM;
                r = config_file_is_wanted(path);
                if (r == -ENOENT || r == -ENOTDIR)
                        continue;
                if (r < 0)
                        return r;
                *ret = r > 0 ? TAKE_PTR(path) : NULL;
                return 0;
        }
        *ret = NULL;
        return 0;
}

static bool list_has_name(char *const *paths, const char *name) {
        STRV_FOREACH (p, paths)
                if (strcmp(path_basename(*p), name) == 0)
                        return true;
        return false;
}

static bool name_is_conf(const char *name) {
        size_t n = strlen(name);

        return name[0] != '.' && n > strlen(".conf") && strcmp(name + n - strlen(".conf"), ".conf") == 0;
}

static int list_folder(const char *folder, char ***paths) {
        _cleanup_closedir_ DIR *d = opendir(folder);

        if (!d)
                return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
        for (;;) {
                _cleanup_free_ char *path = NULL;
                struct dirent *e;

                errno = 0;
                e = readdir(d);
                if (!e)
                        return -errno;
                if (!name_is_conf(e->d_name) || list_has_name(*paths, e->d_name))
                        continue;
                path = path_join(folder, e->d_name);
                if (!path || strv_extend(paths, path) < 0)
                        return -ENOMEM;
        }
}

static int compare_names(const void *a, const void *b) {
        return strcmp(path_basename(*(char *const *) a), path_basename(*(char *const *) b));
}

static void remove_masked(char **paths) {
        char **out = paths;

        for (char **p = paths; p && *p; p++)
                if (config_file_is_wanted(*p) != 0)
                        *out++ = *p;
                else
                        free(*p);
        if (out)
                *out = NULL;
}

int config_file_list(char *const *folders, const char *name, char ***ret) {
        _cleanup_strv_free_ char **paths = NULL;

        STRV_FOREACH (folder, folders) {
                _cleanup_free_ char *path = path_join(*folder, name);
                int r;

                if (!path)
                        return -ENOMEM;
                r = list_folder(path, &paths);
                if (r < 0)
                        return r;
        }
        remove_masked(paths);
        if (paths)
                qsort(paths, strv_length(paths), sizeof(char *), compare_names);
        *ret = TAKE_PTR(paths);
        return 0;
}

typedef struct Reader {
        FILE *file;
        const char *path;
        unsigned n_read; /* lines */
        unsigned line;   /* where the current assignment began */
        char *text;      /* the current line, with its continuations */
        char *buffer;    /* for getline() */
        size_t buffer_size;
        const char *value; /* in text */
        config_line_func func;
        void *userdata;
} Reader;

static void reader_done(Reader *r) {
        free(r->text);
        free(r->buffer);
        file_closep(&r->file);
}

/* 1: r->text holds the next line, 0: end of file or out of memory, which ends the file too. */
static int reader_next(Reader *r) {
        bool is_continued = true;

        (void) str_replace(&r->text, NULL);
        while (is_continued) {
                ssize_t n = getline(&r->buffer, &r->buffer_size, r->file);
                char *joined;

                if (n < 0)
                        return r->text != NULL;
                r->n_read++;
                if (!r->text)
                        r->line = r->n_read;
                while (n > 0 && (r->buffer[n - 1] == '\n' || r->buffer[n - 1] == '\r'))
                        n--;
                is_continued = n > 0 && r->buffer[n - 1] == '\\';
                if (is_continued)
                        r->buffer[n - 1] = ' ';
                joined = str_format("%s%.*s", r->text ?: "", (int) n, r->buffer);
                if (!joined)
                        return 0;
                free(r->text);
                r->text = joined;
        }
        return 1;
}

static char *strip(char *s) {
        char *end;

        s += strspn(s, " \t\v\f");
        end = s + strlen(s);
        while (end > s && isspace((unsigned char) end[-1]))
                end--;
        *end = '\0';
        return s;
}

static void cut_comment(char *s) {
        for (char *p = s; *p; p++)
                if (*p == '#' && p > s && isspace((unsigned char) p[-1])) {
                        *p = '\0';
                        return;
                }
}

static bool key_is_valid(const char *s) {
        if (*s == '\0')
                return false;
        for (; *s; s++)
                if (!isalnum((unsigned char) *s))
                        return false;
        return true;
}

static void reader_report_garbage(const Reader *r, const char *text) {
        r->func(&(ConfigLine){ .file = r->path, .line = r->line, .section = "", .value = text },
                r->userdata);
}

/* fgets() as inih wants it: what inih shall see of the next line. */
static char *reader_get(char *str, int num, void *stream) {
        Reader *r = stream;
        char *text, *equals;

        if (reader_next(r) == 0)
                return NULL;
        text = r->text;
        if (r->line == 1 && strncmp(text, "\xef\xbb\xbf", 3) == 0)
                text += 3;
        text = strip(text);
        (void) snprintf(str, (size_t) num, "\n");
        if (*text == '\0' || *text == '#' || *text == ';')
                return str;
        cut_comment(text);
        text = strip(text);
        equals = strchr(text, '=');
        if (*text == '[' && strchr(text, ']')) {
                (void) snprintf(str, (size_t) num, "%s\n", text);
        } else if (equals && *text != '[') {
                *equals = '\0';
                r->value = strip(equals + 1);
                text = strip(text);
                if (key_is_valid(text))
                        (void) snprintf(str, (size_t) num, "%s=\n", text);
                else
                        reader_report_garbage(r, text);
        } else
                reader_report_garbage(r, text);
        return str;
}

static int reader_handle(void *userdata, const char *section, const char *name, const char *value) {
        Reader *r = userdata;
        ConfigLine l = {
                .file = r->path, .line = r->line, .section = section, .key = name, .value = r->value
        };

        r->func(&l, r->userdata);
        return 1;
}

int config_file_parse(const char *path, config_line_func func, void *userdata) {
        _cleanup_(reader_done) Reader r = { .path = path, .func = func, .userdata = userdata };

        r.file = fopen(path, "re");
        if (!r.file)
                return -errno;
        (void) ini_parse_stream(reader_get, &r, reader_handle, &r);
        return ferror(r.file) ? -EIO : 0;
}
