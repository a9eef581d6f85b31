/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inode flags (chattr), project and extent sizes of files and directories: what FS_IOC_GETFLAGS and
 * FS_IOC_FSGETXATTR tell. Owner, mode, xattrs and times are meta.h's. overlayfs passes both on to the upper
 * inode, and keeps "immutable" and "append-only" in an xattr of its own (ovl_fileattr_set();
 * docs/overlayfs.md 3.5). */
#pragma once

#include <linux/fs.h>

#include "base/macro.h"

typedef struct FileAttr {
        unsigned flags;   /* FS_*_FL */
        struct fsxattr x; /* FS_XFLAG_*, project, extent sizes */
} FileAttr;

/* All zero where the file system has no such thing. */
int fileattr_get(int fd, FileAttr *ret);
/* Neither can it be renamed, nor what is in it be removed. */
bool fileattr_is_frozen(const FileAttr *a) _pure_;
/* What comes into the directory must have, or gets, the project of it. */
bool fileattr_hands_on_project(const FileAttr *a) _pure_;

/* Gives to_fd what from_fd has, and looks whether it has it then. 1: it cannot have it; also where from_fd
 * is frozen, which would end the work on the copy. */
int fileattr_copy(int from_fd, int to_fd);
/* What the kernel takes along when it copies something up (ovl_copy_fileattr()): synchronous, no atime.
 * -EPERM: from_fd is frozen. */
int fileattr_copy_up(int from_fd, int to_fd);
/* What is made in dir_fd from now on gets the project of from_fd, as what is made there; or, if that is a
 * matter of who makes it, or from_fd is -EBADF, none in particular. */
int fileattr_hand_on(int from_fd, int dir_fd);
