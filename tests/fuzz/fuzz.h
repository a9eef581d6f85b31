/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What harnesses share. A harness is one LLVMFuzzerTestOneInput(): it takes any bytes, gives them to one
 * parser, and holds what comes out against a property: what is written can be read again, a second pass
 * changes nothing, a model that knows less says the same. No daemon, no root, no mounts; what has to be a
 * file is one on a tmpfs. libFuzzer calls it, or replay.c, with the files of corpus/NAME. */
#pragma once

#include <stdint.h>

#include "base/macro.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A property. Ends the process, and the input is kept. */
#define HOLDS(what)                                                                                         \
        do {                                                                                                \
                if (!(what))                                                                                \
                        fuzz_fail(__FILE__, __LINE__, #what);                                               \
        } while (0)
_Noreturn void fuzz_fail(const char *file, int line, const char *what);

/* What is left of the input. */
typedef struct Input {
        const uint8_t *at, *end;
} Input;

static inline Input input_begin(const uint8_t *data, size_t size) {
        return (Input){ .at = data, .end = data + size };
}
static inline bool input_is_empty(const Input *in) {
        return in->at >= in->end;
}
uint8_t input_byte(Input *in); /* 0 at the end */
uint64_t input_number(Input *in);
/* Up to the next NUL, which is skipped, or the end. Owned by the caller. */
char *input_string(Input *in);
char *input_rest(Input *in, size_t *ret_size); /* NUL-terminated, owned by the caller */

/* What is left as a record (core/record/manifest.h): strings, in which each "Z" stands for the checksum that
 * belongs there; one more is added at the end. Owned by the caller. */
char *input_record(Input *in, size_t *ret_size);

/* An empty directory of this process, opened; the same each time. */
int fuzz_dir(void);
const char *fuzz_dir_path(void);
/* A file in it, or below. */
void fuzz_write(const char *name, const void *data, size_t size);
/* The same as a path that can be opened, without a directory. */
const char *fuzz_file(const void *data, size_t size);
bool fuzz_is_utf8(const char *s); /* told by another function than ours */
