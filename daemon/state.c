/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "state.h"

#include <ctype.h>
#include <fcntl.h>
#include <string.h>

#include "base/fs-util.h"
#include "config-value.h"

#define FILE_NAME "jobs"
#define FILE_NAME_NEW "jobs.new"
#define FILE_NAME_BAD "jobs.bad"
#define HEADER "ovlfind-jobs 1" /* the version of the format */
#define SIZE_MAX_BYTES (32 * 1024 * 1024)

/* A field of its own in a line: no blanks, never empty. */
static void write_escaped(FILE *f, const char *s) {
        (void) fputc('=', f);
        for (; *s; s++)
                if ((unsigned char) *s <= ' ' || *s == '%' || *s == 0x7f)
                        (void) fprintf(f, "%%%02x", (unsigned char) *s);
                else
                        (void) fputc(*s, f);
}

static void write_job(Job *j, void *userdata) {
        const char *const fields[] = { j->overlay, j->mount_point, j->path };
        FILE *f = userdata;

        if (job_state_is_final(j->state) || j->options.is_dry_run)
                return;
        (void) fprintf(
                f, "%u %s %u %llu", j->id, job_type_to_string(j->type), j->n_attempts,
                (unsigned long long) j->queued_usec);
        for (size_t i = 0; i < ELEMENTSOF(fields); i++) {
                (void) fputc(' ', f);
                write_escaped(f, fields[i]);
        }
        if (job_options_are_default(&j->options))
                (void) fprintf(f, " %u", j->options.uid);
        (void) fputc('\n', f);
}

int state_save(const char *state_dir, uint32_t last_id, Queue *q) {
        _cleanup_close_ int dfd = mkdir_open(state_dir), fd = -EBADF;
        FILE *f;
        int r;

        if (dfd < 0)
                return dfd;
        fd = openat(dfd, FILE_NAME_NEW, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;
        f = fdopen(fd, "w");
        if (!f)
                return -errno;
        (void) TAKE_FD(fd);
        (void) fprintf(f, HEADER "\nlast %u\n", last_id);
        queue_foreach(q, write_job, f);
        (void) fprintf(f, "end\n");
        r = fflush(f) == 0 && !ferror(f) ? 0 : -EIO;
        (void) fclose(f);
        if (r < 0)
                return r;
        return renameat(dfd, FILE_NAME_NEW, dfd, FILE_NAME) < 0 ? -errno : 0;
}

static int unhex(char c) {
        return isdigit((unsigned char) c)     ? c - '0'
                : isxdigit((unsigned char) c) ? tolower((unsigned char) c) - 'a' + 10
                                              : -1;
}

/* In place; NULL for what write_escaped() does not write. */
static const char *unescape(char *s) {
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

static int parse_number(const char *s, uint64_t max, uint64_t *ret) {
        uint64_t v;

        if (!s || value_parse_uint(s, &v) < 0 || v > max)
                return -EBADMSG;
        *ret = v;
        return 0;
}

static int parse_job(char *line, SavedJob *ret) {
        uint64_t id, n_attempts, queued_usec, uid = 0;
        char *state, *fields[8];

        for (size_t i = 0; i < ELEMENTSOF(fields); i++)
                fields[i] = strtok_r(i == 0 ? line : NULL, " ", &state);
        if (parse_number(fields[0], UINT32_MAX, &id) < 0 || parse_number(fields[2], 1000, &n_attempts) < 0 ||
            parse_number(fields[3], UINT64_MAX, &queued_usec) < 0 ||
            (fields[7] && parse_number(fields[7], UINT32_MAX, &uid) < 0))
                return -EBADMSG;
        *ret = (SavedJob){
                .id = (uint32_t) id,
                .type = job_type_from_string(fields[1]),
                .n_attempts = (unsigned) n_attempts,
                .can_go_on = fields[7],
                .uid = (uid_t) uid,
                .queued_usec = queued_usec,
                .overlay = unescape(fields[4]),
                .mount_point = unescape(fields[5]),
                .path = unescape(fields[6]),
        };
        return ret->type >= 0 && ret->overlay && ret->mount_point && ret->path ? 0 : -EBADMSG;
}

/* Lines up to and with "end"; what is cut off counts as not understood. */
static int parse_file(char *text, saved_job_func func, void *userdata, uint32_t *ret_last_id) {
        char *state, *line = strtok_r(text, "\n", &state);
        uint64_t last_id;

        if (!line || strcmp(line, HEADER) != 0)
                return -EBADMSG;
        line = strtok_r(NULL, "\n", &state);
        if (!line || strncmp(line, "last ", 5) != 0 || parse_number(line + 5, UINT32_MAX, &last_id) < 0)
                return -EBADMSG;
        while ((line = strtok_r(NULL, "\n", &state))) {
                SavedJob j;

                if (strcmp(line, "end") == 0) {
                        *ret_last_id = (uint32_t) last_id;
                        return 0;
                }
                if (parse_job(line, &j) < 0)
                        return -EBADMSG;
                func(&j, userdata);
        }
        return -EBADMSG;
}

int state_load(const char *state_dir, saved_job_func func, void *userdata, uint32_t *ret_last_id) {
        _cleanup_close_ int dfd = open(state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        if (dfd < 0)
                return -errno;
        r = file_read(dfd, FILE_NAME, SIZE_MAX_BYTES, &text, &size);
        if (r < 0)
                return r;
        r = parse_file(text, func, userdata, ret_last_id);
        if (r == -EBADMSG)
                (void) renameat(dfd, FILE_NAME, dfd, FILE_NAME_BAD);
        return r;
}
