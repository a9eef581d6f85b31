/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Owner, mode, xattrs, ACLs and times of a directory or file made anew, by descriptor. Inode flags and
 * projects are fileattr.h's. It knows no layer: overlayfs' own xattrs are not copied because the merged
 * view does not show them. */
#pragma once

#include <sys/stat.h>

#include "base/macro.h"

/* Makes the directory to_fd like from_fd but for its times: owner, mode, every xattr and ACL (libattr), and
 * none that from_fd lacks. Blocking. -EPERM or -EOPNOTSUPP when an xattr cannot be had on the target. */
int meta_copy(int from_fd, int to_fd);
/* The same, but labels stay as they are: security.* other than capabilities and the signatures of IMA and
 * EVM, which go with the content. */
int meta_copy_but_labels(int from_fd, int to_fd);
/* The same of a file that is in use: it never grants what neither has, its set-id bits stay where its owner
 * does, and its mode is right in the end also when an xattr cannot be had. */
int meta_copy_all(int from_fd, int to_fd);
/* The xattrs and ACLs but labels of an entry that cannot be opened, or is a symlink; its labels. */
int meta_copy_xattrs_at(int from_dfd, const char *from, int to_dfd, const char *to);
int meta_copy_labels_at(int from_dfd, const char *from, int to_dfd, const char *to);
/* Brings an open entry (O_PATH will do) to the upper, and changes nothing else but its ctime: writes back
 * its access time (docs/overlayfs.md 3.1). Blocks on the lower. */
int meta_copy_up(int fd);
/* The same for a name, of which st was read just now; a symlink itself. */
int meta_copy_up_at(int dfd, const char *name, const struct stat *st);
/* Access and modification time. Last, since every name put into a directory changes them. */
int meta_copy_times(int from_fd, int to_fd);
/* The access time, and now as modification time: a directory in which names changed. Programs that keep its
 * listing go by whether that time is another one, so it is another one even where a file system keeps
 * seconds only. */
int meta_touch(int from_fd, int to_fd);
