/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A walk over the processes of the machine, for those who ask who uses something. It blocks on /proc only.
 * Processes and threads that end meanwhile are passed over without an error. So are the caller and other
 * processes of its program: workers hold descriptors of trees themselves, and must not wait for each other.
 */
#pragma once

#include <limits.h>
#include <sys/types.h>

#include "base/macro.h"

typedef struct ProcTask {
        pid_t process, thread;
        int process_fd;     /* directory of the process in /proc */
        int fd;             /* directory of the thread */
        bool has_own_fs;    /* working directory and root are not those of the first thread */
        bool has_own_files; /* nor are the descriptors; both are true for the first thread */
} ProcTask;

/* A positive return passes over the other threads of the process, a negative one ends the walk and is passed
 * on. */
typedef int (*proc_task_func)(const ProcTask *t, void *userdata);
/* proc is NULL for /proc. */
int proc_tasks_foreach(const char *proc, proc_task_func func, void *userdata);
/* Whether the process whose directory in /proc this is runs the caller's own program. */
bool proc_is_own_kind(int process_fd);

/* A link of /proc, cut at PATH_MAX - 1, "" if there is none (any more). */
bool proc_read_link(int dfd, const char *name, char buffer[static PATH_MAX]);
/* Decodes "\\040" and so on, as files of /proc have blanks, newlines and backslashes of paths. In place. */
void proc_unescape(char *s);
/* The name of the command, with '?' for what cannot be printed; "" for a process that has ended. */
#define PROC_COMMAND_SIZE 64 /* the longest are those of kernel threads */
void proc_read_command(int process_fd, char buffer[static PROC_COMMAND_SIZE]);
/* "123" -> 123, anything else -> 0 */
pid_t proc_pid_from_name(const char *name) _pure_;

typedef int (*proc_line_func)(const char *line, void *userdata);
/* Calls func for each line of a file, without its newline. 0, the first negative return, or what opening
 * says. */
int proc_lines_foreach(int dfd, const char *name, proc_line_func func, void *userdata);
