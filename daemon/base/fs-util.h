/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files by descriptor: lookups that cannot leave a root, listings, small files written atomically, xattrs,
 * file handles. It knows neither overlays nor layers. Below a descriptor no lookup follows a symlink or
 * leaves the tree, whatever is renamed meanwhile. All functions block on the file system they are given. */
#pragma once

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include "base/macro.h"

/* Room for any file handle. */
typedef union FileHandle {
        struct file_handle handle;
        char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
} FileHandle;

/* Opens path below dfd: no "..", no symlink on the way or at the end, no other mount (openat2, Linux 5.6:
 * RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV). path is relative; "" opens dfd itself anew.
 * Returns a descriptor (CLOEXEC), -EXDEV for another mount, -ELOOP for a symlink, or what openat2() says. */
int open_beneath(int dfd, const char *path, int flags);
/* The same with O_DIRECTORY | O_RDONLY | O_NOFOLLOW. */
int open_dir_beneath(int dfd, const char *path);

/* Whether an open by path failed because the directory is not there any more, or something else is. */
static inline bool errno_is_gone(int r) {
        return r == -ENOENT || r == -ENOTDIR || r == -ELOOP;
}

struct inotify_event;

/* What func of a walk, this one or another, returns to end it because it has found, or seen, enough. */
enum { WALK_ENOUGH = -EALREADY };

typedef int (*dir_entry_func)(int dfd, const char *name, unsigned char type, void *userdata);
/* Calls func for every entry but "." and "..". dfd stays open, its offset is not used. type is a DT_ value,
 * never DT_UNKNOWN. Stops at the first negative return and passes it on. */
int dir_foreach(int dfd, dir_entry_func func, void *userdata);
/* 1, 0, or why it cannot be listed. */
int dir_is_empty(int dfd);
typedef int (*dirent_func)(int dfd, const struct dirent *de, void *userdata);
/* The same with what readdir() says, DT_UNKNOWN included. */
int dir_foreach_dirent(int dfd, dirent_func func, void *userdata);
/* Removes everything below dfd, not dfd itself; does not cross mounts or follow symlinks. 0, or the first
 * error after having gone through all. */
int dir_empty(int dfd);

/* Reads a file of at most max bytes; *ret is NUL-terminated and owned by the caller. -E2BIG when larger. */
int file_read(int dfd, const char *name, size_t max, char **ret, size_t *ret_size);
/* inotify_add_watch() for an open file, whatever its name is by now. Returns the watch descriptor. */
int inotify_watch_fd(int inotify_fd, int fd, uint32_t mask);
typedef int (*inotify_func)(const struct inotify_event *e, void *userdata);
/* Calls func for every event that is queued; stops at the first negative return and passes it on. */
int inotify_foreach(int inotify_fd, inotify_func func, void *userdata);
/* write(2) until all is written. */
int fd_write_all(int fd, const void *data, size_t size);
/* Writes a file so that after a crash either the old or the new content is there: unique name, write,
 * fdatasync, rename, fsync of the directory. Mode 0600. name is a single component. */
int file_write_atomic(int dfd, const char *name, const void *data, size_t size);
/* Removes what a killed file_write_atomic() has left by this name; nothing else, and not what is being
 * written. */
int file_remove_unfinished(int dfd, const char *name);
/* The path of an open file as the caller's root sees it (readlink of /proc/self/fd), owned by the caller. */
int fd_path(int fd, char **ret);
/* Whether both are of one inode: 1, 0, or what fstat() says. */
int fd_is_same(int a, int b);
/* mkdir with parents, each 0700 when missing; returns a descriptor of the directory. */
int mkdir_open(const char *path);

/* The path of an open file, or with a name of an entry in it, for calls that take no O_PATH descriptor. name
 * is a single component, or "". */
#define PROC_FD_MAX (sizeof("/proc/self/fd/") + 10 + 1 + NAME_MAX + 1)
void proc_fd_path(char buffer[static PROC_FD_MAX], int fd, const char *name);

/* Reads an xattr of the entry name in dfd without following symlinks. Returns its size and sets *ret
 * (NUL-terminated, owned by the caller), -ENODATA when there is none. */
ssize_t xattr_read_at(int dfd, const char *name, const char *xattr, char **ret);
ssize_t xattr_read_fd(int fd, const char *xattr, char **ret);
/* setxattr(2) on an open file; fd may be O_PATH. */
int xattr_write_fd(int fd, const char *xattr, const void *value, size_t size, int flags);

/* Identity of an inode of an upper file system that outlives renames and is not reused: its file handle, in
 * hex. name "" is dfd itself. -EOPNOTSUPP where the file system has none. */
int file_handle_at(int dfd, const char *name, char **ret);
/* The path of that inode below root_fd, as of now: a descriptor (O_PATH) and the path relative to root_fd.
 * Only for directories. -ESTALE when it is gone, -EXDEV when it lies outside of root_fd. */
int file_handle_open(int root_fd, const char *handle, char **ret_path);
