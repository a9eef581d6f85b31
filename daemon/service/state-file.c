/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/state-file.h"

#include <ctype.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "base/fs-util.h"
#include "service/config-value.h"

#define SIZE_MAX_BYTES (32 * 1024 * 1024)

void state_file_write_field(FILE *f, const char *s) {
        (void) fputc('=', f);
        for (; *s; s++)
                if ((unsigned char) *s <= ' ' || *s == '%' || *s == 0x7f)
                        (void) fprintf(f, "%%%02x", (unsigned char) *s);
                else
                        (void) fputc(*s, f);
}

static int unhex(char c) {
        return isdigit((unsigned char) c)     ? c - '0'
                : isxdigit((unsigned char) c) ? tolower((unsigned char) c) - 'a' + 10
                                              : -1;
}

const char *state_file_parse_field(char *s) {
        char *out = s;

        if (!s || *s != '=')
                return NULL;
        for (char *in = s + 1; *in; in++) {
                if (*in != '%') {
                        *out++ = *in;
                        continue;
                }
                if (unhex(in[1]) < 0 || unhex(in[2]) < 0)
                        return NULL;
                *out++ = (char) (unhex(in[1]) * 16 + unhex(in[2]));
                in += 2;
        }
        *out = '\0';
        return s;
}

int state_file_parse_number(const char *s, uint64_t max, uint64_t *ret) {
        uint64_t v;

        if (!s || value_parse_uint(s, &v) < 0 || v > max)
                return -EBADMSG;
        *ret = v;
        return 0;
}

FILE *state_text_begin(StateText *t, const char *header) {
        *t = (StateText){ 0 };
        t->f = open_memstream(&t->text, &t->size);
        if (t->f)
                (void) fprintf(t->f, "%s\n", header);
        return t->f;
}

char *state_text_end(StateText *t) {
        (void) fprintf(t->f, "end\n");
        if (fclose(t->f) == 0)
                return t->text;
        free(t->text);
        return NULL;
}

void state_file_split(char *line, char **ret_fields, size_t n) {
        char *state;

        for (size_t i = 0; i < n; i++)
                ret_fields[i] = strtok_r(i == 0 ? line : NULL, " ", &state);
}

int state_file_replace(const char *state_dir, const char *name, const char *text) {
        _cleanup_close_ int dfd = mkdir_open(state_dir), fd = -EBADF;
        char new_name[NAME_MAX + 1];
        int r;

        if (dfd < 0)
                return dfd;
        (void) snprintf(new_name, sizeof(new_name), "%s.new", name);
        fd = openat(dfd, new_name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;
        r = fd_write_all(fd, text, strlen(text));
        if (r < 0)
                return r;
        return renameat(dfd, new_name, dfd, name) < 0 ? -errno : 0;
}

static int parse(char *text, const char *header, int (*func)(char *line, void *userdata), void *userdata) {
        char *state, *line = strtok_r(text, "\n", &state);

        if (!line || strcmp(line, header) != 0)
                return -EBADMSG;
        while ((line = strtok_r(NULL, "\n", &state))) {
                int r;

                if (strcmp(line, "end") == 0)
                        return 0;
                r = func(line, userdata);
                if (r < 0)
                        return r;
        }
        return -EBADMSG;
}

int state_file_load(
        const char *state_dir,
        const char *name,
        const char *header,
        int (*line)(char *line, void *userdata),
        void *userdata) {
        _cleanup_close_ int dfd = open(state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        char bad_name[NAME_MAX + 1];
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        if (dfd < 0)
                return -errno;
        r = file_read(dfd, name, SIZE_MAX_BYTES, &text, &size);
        if (r == -E2BIG)
                r = -EBADMSG;
        if (r >= 0)
                r = parse(text, header, line, userdata);
        (void) snprintf(bad_name, sizeof(bad_name), "%s.bad", name);
        if (r == -EBADMSG)
                (void) renameat(dfd, name, dfd, bad_name);
        return r;
}
