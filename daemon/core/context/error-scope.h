/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether an error belongs to one entry, whose directory is left out then, or to a whole file system. The
 * one table of what system calls on the overlay and its layers may say. It acts on nothing and remembers
 * nothing: each question is answered by the table, and by asking the layers where an errno alone does not
 * tell. */
#pragma once

#include "base/states.h"
#include "core/context/context.h"

typedef enum ErrorCall {
        CALL_READ,           /* open(), stat(), readdir(), getxattr(), name_to_handle_at() */
        CALL_COPY_UP,        /* link(), utimensat() through the overlay: the kernel copies up metadata */
        CALL_MAKE,           /* mkdir(), mknod(), symlink(), rename(), unlink() */
        CALL_SET_ATTRIBUTES, /* chown(), chmod(), setxattr(), utimensat() on what was made */
        CALL_DATA,           /* read(), write(), open() for writing: content */
        _CALL_MAX,
} ErrorCall;

typedef enum ErrorScope {
        SCOPE_ENTRY, /* that one: leave out its directory, do the rest */
        SCOPE_LOWER, /* a lower layer does not answer: the job waits */
        SCOPE_JOB,   /* the upper layer, or this process: nothing else would get further */
} ErrorScope;

/* r: negative errno. Where it does not tell by itself, the layers are asked: whether the lower ones answer,
 * whether the upper one has room. Blocks. */
ErrorScope error_scope(const Context *context, ErrorCall call, int r);
/* A server that comes and goes says such a thing of anything: worth another try at once. */
bool error_is_of_lower(int r) _pure_;
/* Of a directory that is left out for it: pending where it may pass by itself. */
DirectoryState error_state(int r);
/* "cannot WHAT 'PATH': ERROR; what to do", owned by the caller. dfd, name: the entry, for what its xattrs
 * take; dfd -EBADF: none. NULL: out of memory. */
char *error_reason(int r, ErrorCall call, const char *what, const char *path, int dfd, const char *name);
