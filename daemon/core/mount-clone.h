/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Directories through a mount of our own that is attached nowhere: whoever unmounts what we look at is not
 * told that it is busy. The file system itself lives on until the descriptor is closed. */
#pragma once

/* Opens what path leads to (O_DIRECTORY | O_CLOEXEC and flags). Mounts below it are not there: what they
 * cover shows, and nothing says -EXDEV. A rename or link from one clone to another is one between two mounts
 * (EXDEV). Where the kernel does not clone the mount it is the mount itself that is opened. */
int mount_clone_open(const char *path, int flags);
/* The same for an open directory. */
int mount_clone_fd(int fd, int flags);
