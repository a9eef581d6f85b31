/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between the files check*.c only. A check looks at one precondition and says one thing about it, or nothing
 * where it does not apply: it returns 0 with f->text set or not, a negative errno if it could not run at
 * all. */
#pragma once

#include "core/check/check.h"
#include "core/mount/mount-table.h"

typedef struct CheckContext {
        const Overlay *o;
        const char *proc;
        const char *parameters;
        MountTable table; /* of this mount namespace */
        int root_fd;      /* of the overlay; a negative errno if it could not be opened, as the next two */
        int upper_fd;
        int work_fd;
        pid_t elsewhere;   /* a process of another mount namespace that shows the overlay; 0: none */
        char *second;      /* mount point of another overlay with the same upper; NULL: none */
        pid_t second_pid;  /* a process that sees it there */
        pid_t swapped_pid; /* a process that sees a mount of the superblock from before a swap; 0: none */
} CheckContext;

typedef int (*check_func)(const CheckContext *c, Check *f);

/* Both return 0, or -ENOMEM. */
int check_say(Check *f, CheckLevel level, const char *format, ...) _printf_(3, 4);
int check_advise(Check *f, const char *format, ...) _printf_(2, 3);
/* Something could not be looked at: a warning for a caller without privilege, whom it tells nothing about
 * the overlay, and when there is no space to try; otherwise a failure. */
int check_cannot_tell(Check *f, int error, const char *what);

/* check-upper.c */
int check_upper_path(const CheckContext *c, Check *f);
int check_work_path(const CheckContext *c, Check *f);
int check_trusted_xattr(const CheckContext *c, Check *f);
int check_tmpfile(const CheckContext *c, Check *f);
int check_d_type(const CheckContext *c, Check *f);
int check_rename_whiteout(const CheckContext *c, Check *f);
int check_casefold(const CheckContext *c, Check *f);
int check_space(const CheckContext *c, Check *f);
int check_inodes(const CheckContext *c, Check *f);

/* check-boot.c */
int check_boot_entry(const CheckContext *c, Check *f);

/* check-mounts.c */
int check_scan_namespaces(CheckContext *c); /* sets the last four members of *c */
int check_xino(const CheckContext *c, Check *f);
int check_nested_lower(const CheckContext *c, Check *f);
int check_user_namespace(const CheckContext *c, Check *f);
int check_other_namespaces(const CheckContext *c, Check *f);
int check_second_overlay(const CheckContext *c, Check *f);
