/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the parts share: paths.c (the loop), paths-known.c (what is known of directories), paths-process.c
 * (who a program is), paths-events.c (which programs start), paths-environment.c and paths-elf.c (what one
 * says of where it searches; pure). */
#pragma once

#include <limits.h>
#include <sys/types.h>
#include <uthash.h>

#include "core/mount/mount-table.h"
#include "core/mount/overlay-set.h"
#include "core/paths/paths.h"

#define PATHS_PROGRAM_MOST 1024u /* paths of one program that are looked at, wherever they lead */

/* path is absolute and lexically simple: no "." and "..", no '/' at the end. False: enough. */
typedef bool (*paths_func)(const char *path, void *userdata);

/* paths-environment.c */
/* Writes path[0..n] without what lexically vanishes; origin stands for $ORIGIN (NULL: there is none). False:
 * it is relative, or too long. */
bool paths_simplify(const char *path, size_t n, const char *origin, char ret[static PATH_MAX]);
/* Calls func for each absolute directory of a list. False: func has enough. */
bool paths_split(
        const char *list, const char *separators, const char *origin, paths_func func, void *userdata);
/* Of all variables that hold search paths of this program (the name of its executable) in a block of
 * NUL-terminated NAME=VALUE; block[size] is NUL. */
void paths_from_environment(
        const char *block,
        size_t size,
        const char *program,
        char *const *patterns,
        paths_func func,
        void *userdata);
/* Where an interpreter of that name (python3.11) looks that belongs to the tree prefix. */
void paths_from_python(const char *prefix, const char *name, paths_func func, void *userdata);

/* paths-elf.c */
/* Reads all of that part of a file: 0, or a negative errno. */
typedef int (*paths_read_func)(uint64_t offset, void *buffer, size_t size, void *userdata);
/* The list of directories (RUNPATH, or RPATH) of an executable. False: there is none, or what is there makes
 * no sense. */
bool paths_from_elf(paths_read_func read, void *userdata, char ret[static PATH_MAX]);

/* paths-events.c */
/* A socket that tells of programs that are executed; -EOPNOTSUPP or another errno where the kernel tells
 * nobody, or not us. */
int paths_open_events(void);
/* Tells the kernel that nobody listens any more: before Linux 6.6 it does not find out. Returns -EBADF. */
int paths_close_events(int fd);
/* Calls func for each that has been told, some at a time. 1: there may be more, 0: there are none, or what
 * func or the kernel says. -ENOBUFS: some were lost. */
typedef int (*paths_pid_func)(pid_t pid, void *userdata);
int paths_read_events(int fd, paths_pid_func func, void *userdata);

/* paths-process.c */
typedef struct PathsProcess {
        int dfd;             /* its directory in /proc */
        uint64_t id;         /* hash of its PID and when it was started */
        uint64_t start_usec; /* since the machine was booted */
        bool has_executed;   /* a program, since it was forked */
        bool is_elsewhere;   /* in another mount namespace, or below another root */
        bool *shown;         /* of each overlay, whether it has it at the same place; NULL not asked yet */
        uint64_t credentials;
        uid_t uid; /* in accesses to files */
        gid_t gid, groups[1024];
        size_t n_groups;
} PathsProcess;

/* All of a file of /proc, as much as is taken; ret[n] is NUL. */
size_t paths_read_proc(int dfd, const char *name, char *ret, size_t room);
/* When it was started, and has_executed. */
bool paths_process_begin(PathsProcess *p, int dfd, pid_t pid);
/* The rest. False: it has ended, or has more groups than we take. */
bool paths_process_read(PathsProcess *p);
/* Whether it sees the overlay where we do. */
bool paths_process_shows(PathsProcess *p, const OverlaySet *s, const OverlayPlace *place);
void paths_process_done(PathsProcess *p);
/* Files are accessed with the rights of that process, by this thread, until paths_act_as_root(). */
bool paths_act_as(const PathsProcess *p);
void paths_act_as_root(const PathsProcess *p);

/* paths-known.c */
typedef struct PathsKnown {
        UT_hash_handle hh;
        uint64_t until_usec;
        char *overlay;  /* its name; NULL: to no directory of one */
        char *relative; /* without symlinks */
        char *run_path; /* of an executable */
        uint64_t n;     /* programs, not told yet */
        char key[];     /* the rights it was looked up with, and the path */
} PathsKnown;

typedef struct Paths {
        const PathsConfig *config;
        OverlaySet overlays;
        PathsKnown *known;
        bool is_full;      /* of what has to be told first */
        int events_fd;     /* -EBADF: the processes there are get looked at */
        int signal_fd;     /* SIGTERM */
        char reason[200];  /* "" none */
        uint64_t *counted; /* of a process and a directory, by hash; what was long ago is overwritten */
        bool has_counts, is_busy;
        uint64_t busy_usec; /* when that was told last */
        const OverlayPlace *busy_with;
        uint64_t tell_usec, scan_usec, scan_pause_usec;
        uint64_t second_usec; /* begin of that in which n_programs have been looked at, for spent_usec */
        uint64_t spent_usec;
        unsigned n_programs;
        bool has_missed;     /* programs that are still there get looked at, at scan_usec */
        uint64_t since_usec; /* since boot: who was started before is known, or was there before us */
        uint64_t now_usec;
        /* The program that is looked at. */
        PathsProcess process;
        unsigned n_paths;
        int root_fd; /* of root_of, through a mount of our own */
        const OverlayPlace *root_of;
        MountTable mounts; /* as they were then */
} Paths;

void paths_known_drop(Paths *p, PathsKnown *k);
void paths_known_drop_all(Paths *p);
/* The directory that a path of this program leads to, as far as it may see that; NULL: not known now. */
PathsKnown *
paths_known_directory(Paths *p, const char *path, const OverlayPlace *place, const char *relative);
/* What an executable asks the loader for; false: for nothing. */
bool paths_known_run_path(
        Paths *p,
        const char *path,
        const OverlayPlace *place,
        const char *relative,
        char ret[static PATH_MAX]);
void paths_leave_root(Paths *p);

/* paths.c */
/* Before what may hang, at this overlay or (NULL) none: tells so once a second. */
void paths_say_busy(Paths *p, const OverlayPlace *place);
