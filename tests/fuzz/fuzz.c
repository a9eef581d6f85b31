/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fuzz.h"

#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/fs-util.h"
#include "base/hash.h"

void fuzz_fail(const char *file, int line, const char *what) {
        (void) fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
        abort();
}

/* Nobody loses power here, and a thousand executions a second are wanted. */
int fsync(int fd) {
        return 0;
}

int fdatasync(int fd) {
        return 0;
}

uint8_t input_byte(Input *in) {
        return in->at < in->end ? *in->at++ : 0;
}

uint64_t input_number(Input *in) {
        uint64_t n = 0;

        for (size_t i = 0; i < sizeof(n); i++)
                n = n << 8 | input_byte(in);
        return n;
}

static char *copy(const uint8_t *data, size_t size) {
        char *s = malloc(size + 1);

        HOLDS(s);
        memcpy(s, data, size);
        s[size] = '\0';
        return s;
}

char *input_string(Input *in) {
        size_t left = (size_t) (in->end - in->at);
        const uint8_t *nul = left > 0 ? memchr(in->at, 0, left) : NULL;
        char *s = copy(in->at, nul ? (size_t) (nul - in->at) : left);

        in->at = nul ? nul + 1 : in->end;
        return s;
}

char *input_rest(Input *in, size_t *ret_size) {
        size_t left = (size_t) (in->end - in->at);
        char *s = copy(in->at, left);

        if (ret_size)
                *ret_size = left;
        in->at = in->end;
        return s;
}

char *input_record(Input *in, size_t *ret_size) {
        char *text = NULL;
        FILE *f = open_memstream(&text, ret_size);
        size_t from = 0;

        HOLDS(f);
        for (bool is_last = false; !is_last;) {
                _cleanup_free_ char *s = NULL;

                is_last = input_is_empty(in);
                s = is_last ? strdup("Z") : input_string(in);
                if (strcmp(s, "Z") == 0) {
                        size_t at;

                        (void) fflush(f);
                        at = *ret_size;
                        (void) fprintf(f, "Z%" PRIx64 "%c", hash_bytes(text + from, at - from), 0);
                        from = at;
                } else
                        (void) fprintf(f, "%s%c", s, 0);
        }
        (void) fclose(f);
        return text;
}

static char directory[] = "/dev/shm/ovlfind-fuzz-XXXXXX";
static int dir_fd = -1;
static pid_t owner;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        return remove(path);
}

static void remove_directory(void) {
        if (getpid() == owner)
                (void) nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void make_directory(void) {
        if (!mkdtemp(directory))
                HOLDS(mkdtemp(strcpy(directory, "/tmp/ovlfind-fuzz-XXXXXX")));
        dir_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        HOLDS(dir_fd >= 0);
        owner = getpid();
        (void) atexit(remove_directory);
}

const char *fuzz_dir_path(void) {
        if (dir_fd < 0)
                make_directory();
        return directory;
}

int fuzz_dir(void) {
        (void) fuzz_dir_path();
        HOLDS(dir_empty(dir_fd) == 0);
        return dir_fd;
}

void fuzz_write(const char *name, const void *data, size_t size) {
        _cleanup_close_ int fd =
                openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

        HOLDS(fd >= 0 && fd_write_all(fd, data, size) >= 0);
}

const char *fuzz_file(const void *data, size_t size) {
        static char path[64];
        static int fd = -1;

        if (fd < 0)
                fd = memfd_create("input", MFD_CLOEXEC);
        HOLDS(fd >= 0 && ftruncate(fd, 0) >= 0 && pwrite(fd, data, size, 0) == (ssize_t) size);
        (void) snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        return path;
}

/* By the table of well-formed byte sequences (Unicode 15, table 3-7). */
bool fuzz_is_utf8(const char *s) {
        static const struct {
                unsigned char first, last, low, high;
                unsigned n;
        } rows[] = {
                { 0x01, 0x7f, 0, 0, 0 },       { 0xc2, 0xdf, 0x80, 0xbf, 1 }, { 0xe0, 0xe0, 0xa0, 0xbf, 2 },
                { 0xe1, 0xec, 0x80, 0xbf, 2 }, { 0xed, 0xed, 0x80, 0x9f, 2 }, { 0xee, 0xef, 0x80, 0xbf, 2 },
                { 0xf0, 0xf0, 0x90, 0xbf, 3 }, { 0xf1, 0xf3, 0x80, 0xbf, 3 }, { 0xf4, 0xf4, 0x80, 0x8f, 3 },
        };

        for (const unsigned char *p = (const unsigned char *) s; *p; p++) {
                size_t row = 0;

                while (row < ELEMENTSOF(rows) && (*p < rows[row].first || *p > rows[row].last))
                        row++;
                if (row == ELEMENTSOF(rows))
                        return false;
                for (unsigned i = 0; i < rows[row].n; i++) {
                        p++;
                        if (*p < (i == 0 ? rows[row].low : 0x80) || *p > (i == 0 ? rows[row].high : 0xbf))
                                return false;
                }
        }
        return true;
}
