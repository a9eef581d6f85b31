/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Directories through a mount of our own that is attached nowhere: whoever unmounts what we look at is not
 * told that it is busy (docs/overlayfs.md 10.1). It does not end what looks through it when the mount itself
 * goes: the file system lives on until the descriptor is closed (worker/guard.c). */
#pragma once

#include <stdint.h>

#include "core/mount/mount-table.h"

/* Opens what path leads to (O_DIRECTORY | O_CLOEXEC and flags). Mounts below it are not there: what they
 * cover shows, and nothing says -EXDEV. A rename or link from one clone to another is one between two mounts
 * (EXDEV). Where the kernel does not clone the mount it is the mount itself that is opened. */
int mount_clone_open(const char *path, int flags);
/* The same for an open directory. */
int mount_clone_fd(int fd, int flags);

typedef int (*mount_func)(int fd, void *userdata);
/* Calls func, which must not wait, with a descriptor (O_PATH) of what path leads to on a mount that is
 * attached, as those have to be that an overlay is made of (before Linux 6.15). Returns what func does, or
 * an error. */
int mount_call_attached(const char *path, mount_func func, void *userdata);

/* Whether a walk to path may wait for a server, whatever is cached (RESOLVE_CACHED): then it must not be
 * done in a copy of the mount namespace, which holds all file systems. */
bool mount_walk_may_wait(const MountTable *t, const char *path);
/* Opens a directory (O_PATH) if all names on the way are in memory, without a wait; -EAGAIN: they are not.
 * The kernel says that as well of a walk that comes upon a change of any mount of the machine, so it is
 * tried often. */
int mount_open_cached(int dfd, const char *path, uint64_t resolve);
