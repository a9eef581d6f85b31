/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the parts of the mark method share: mark.c (the order of the steps), mark-prepare.c (everything is
 * copied up; the record), mark-watch.c (renames meanwhile), mark-pins.c (who is still in memory),
 * mark-write.c (the raw edits of the upper). */
#pragma once

#include "core/context/batch.h"
#include "core/context/error-scope.h"
#include "core/context/staging.h"
#include "core/lower/lower.h"
#include "core/mark/mark.h"
#include "core/record/tree.h"
#include "core/users/blockers.h"

/* A directory being marked. It is held by its upper directory only: a descriptor of the overlay's would be
 * one of those uses that keep it from being marked. */
typedef struct Mark Mark;
typedef struct MarkDirectory {
        Mark *mark;
        const char *path; /* borrowed */
        size_t parent;    /* index of the one above, SIZE_MAX if that is not among them */
        Node *node;       /* in the record; its lower is the lower path */
        int upper_fd;
        int watch;
        bool is_out;              /* blocked, or nothing to do */
        bool is_ready;            /* nothing in memory can hold a stale redirect */
        bool needs_another_round; /* a redirect was written since the round began: an inode that is in memory
                                     may have been read before */
        bool is_marked;
        char *blocked; /* the reason, NULL if it is out for having nothing to do */
        DirectoryState blocked_state;
        int blocked_error; /* positive errno, 0 if it was none */
} MarkDirectory;

struct Mark {
        Context *context;
        Batch batch;     /* n_done: entries */
        Staging staging; /* proves that the upper is the mount's; pinned files are linked into it */
        Tree *tree;      /* the record, from the overlay's root */
        Lower lower;     /* for the record; not open if a layer's path leads nowhere */
        MarkDirectory *items;
        size_t n;
        int inotify_fd;
        int fanotify_fd;
        int n_pins;     /* left in this round */
        bool has_users; /* looked for in this round */
        Blockers users;
};

/* Leaves d as it is. The first reason stays. */
void mark_block(MarkDirectory *d, DirectoryState state, const char *format, ...) _printf_(3, 4);
/* An error of a system call on d or its entry name: leaves d as it is if it belongs to that one alone, and
 * returns RESULT_BLOCKED; else r. dfd: d's directory, for name; -EBADF where there is none. */
int mark_error(
        const Mark *m, ErrorCall call, int r, MarkDirectory *d, int dfd, const char *name, const char *what);
/* Opens d through the overlay; proves that it is the directory whose upper is held. Blocks d and returns
 * -ESTALE if it is not there any more. */
int mark_open(const Mark *m, MarkDirectory *d, int *ret_fd);

/* mark-prepare.c: to be called from any thread. */
int mark_prepare(Mark *m, MarkDirectory *d, Failure *reterr);

/* mark-watch.c */
int mark_watch(Mark *m, MarkDirectory *d);
typedef int (*moved_func)(Mark *m, MarkDirectory *d, const char *name);
/* Calls func for every name that came into a watched directory since the last call, until there is none
 * more: afterwards func has seen each entry that was renamed, under its last name. */
int mark_follow(Mark *m, moved_func func);

/* mark-pins.c */
/* Puts silent marks on d and on its entries that need a lower layer, which go when the kernel forgets them.
 */
int mark_pins_set(Mark *m, Failure *reterr);
/* Makes the kernel forget what nobody uses. Then blocks those directories of which something is still in
 * memory as it was before; for files, makes the kernel itself store an absolute redirect. */
int mark_pins_check(Mark *m, Failure *reterr);
/* The same for one entry that was renamed since: the check may have asked for its old name. */
int mark_pins_check_moved(Mark *m, MarkDirectory *d, const char *name);

/* mark-write.c: the raw edits. */
/* Gives each entry of the directory that needs a lower layer an absolute redirect. is_opaque: whether the
 * directory is marked. *ret_n: how many had none. ret_failed: the name of the one it failed at, or "". */
int mark_write_redirects(
        int upper_fd,
        const char *lower,
        bool is_opaque,
        unsigned *ret_n,
        char ret_failed[static NAME_MAX + 1]);
/* The same for one entry. A name that is gone is no error. 1 it had none, 0 nothing to do. */
int mark_write_redirect(int upper_fd, const char *name, const char *lower, bool is_opaque);
/* The redirect of the directory itself, which the kernel does not read once it is opaque: it tells later
 * what the directory was. 1 written, 0 it was there. */
int mark_write_own(int upper_fd, const char *lower);
int mark_write_opaque(int upper_fd);
