/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the parts share: paths.c (the loop, what is known of directories), paths-events.c (which programs
 * start), paths-environment.c and paths-elf.c (what one says of where it searches; pure). */
#pragma once

#include <limits.h>
#include <sys/types.h>

#include "core/paths/paths.h"

#define PATHS_PROGRAM_MOST 1024 /* directories that one program can make known */

/* path is absolute and lexically simple: no "." and "..", no '/' at the end. */
typedef void (*paths_func)(const char *path, void *userdata);

/* paths-environment.c */
/* Writes path[0..n] without what lexically vanishes; origin stands for $ORIGIN (NULL: there is none). False:
 * it is relative, or too long. */
bool paths_simplify(const char *path, size_t n, const char *origin, char ret[static PATH_MAX]);
/* Calls func for each absolute directory of a list. */
void paths_split(
        const char *list, const char *separators, const char *origin, paths_func func, void *userdata);
/* Of all variables that hold search paths in a block of NUL-terminated NAME=VALUE; block[size] is NUL. */
void paths_from_environment(
        const char *block, size_t size, char *const *patterns, paths_func func, void *userdata);
/* Where an interpreter of that name (python3.11) looks that belongs to the tree prefix. */
void paths_from_python(const char *prefix, const char *name, paths_func func, void *userdata);

/* paths-elf.c */
/* Reads memory of a process: 0, or a negative errno. */
typedef int (*paths_read_func)(uint64_t address, void *buffer, size_t size, void *userdata);
/* The list of directories (RUNPATH, or RPATH) of the executable whose program headers are at that address.
 * 1, or 0: there is none, or what is there makes no sense. */
int paths_from_elf(
        uint64_t headers,
        uint64_t n_headers,
        paths_read_func read,
        void *userdata,
        char ret[static PATH_MAX]);

/* paths-events.c */
/* A socket that tells of programs that are executed; -EOPNOTSUPP or another errno where the kernel tells
 * nobody, or not us. */
int paths_open_events(void);
/* Calls func for each. 0, or what func or the kernel says. -ENOBUFS: some were lost. */
typedef int (*paths_pid_func)(pid_t pid, void *userdata);
int paths_read_events(int fd, paths_pid_func func, void *userdata);
