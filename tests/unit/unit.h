/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What unit tests share: a scratch directory for each test, and, for those that need it, a mount namespace
 * of their own in which that directory is a tmpfs. Nothing is left behind, also when a test fails. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/macro.h"

#define UNIT_PATH_MAX 512 /* no test goes deeper */

typedef struct Path {
        char s[UNIT_PATH_MAX];
} Path;

/* Setup and teardown of a test, and a shorthand for tables of tests. */
int scratch_setup(void **state);
int scratch_teardown(void **state);
#define unit_test_scratch(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

/* A path below the scratch directory. */
Path at(const char *format, ...) _printf_(1, 2);
/* Makes the scratch directory a tmpfs in a private mount namespace. Ends the test as skipped, with the
 * reason printed, where that is not permitted; fails it where CI=true. */
void need_mounts(void);

/* All of these end the test on failure. Paths are absolute. */
void make_directory(const char *path); /* with parents */
int open_directory(const char *path);  /* for reading; it is there */
void make_file(const char *path, const void *data, size_t size);
void make_text(const char *path, const char *text);
void set_xattr(const char *path, const char *name, const char *value, size_t size);
void mount_overlay(const char *target, const char *options);
/* A new file system on a file below the scratch directory, mounted at "fs" there. Skips the test as
 * need_mounts() does. */
void mount_new_fs(const char *mkfs);
/* Lists path into a sorted string "a b c". */
void list_directory(const char *path, char *buffer, size_t size);

/* A process in a mount namespace of its own, in which prepare(userdata) has been called. */
typedef struct Neighbour {
        pid_t pid;
        int fd; /* closing it ends the process */
} Neighbour;

void neighbour_start(Neighbour *n, void (*prepare)(void *userdata), void *userdata);
void neighbour_stop(Neighbour *n);

/* A sequence of numbers that is the same in every run: xorshift64*. */
uint64_t random_next(uint64_t *seed);

#define assert_contains(haystack, needle) assert_contains_(haystack, needle, __FILE__, __LINE__)
void assert_contains_(const char *haystack, const char *needle, const char *file, int line);
