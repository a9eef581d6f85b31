/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Entries as short numbers, to tell later whether the lower or a user has changed something. They prove no
 * sameness of content: no data is read. What two file systems cannot both have is left out, so that an
 * entry and its copy have the same digests. 0 is never the digest of anything. */
#pragma once

#include <stdint.h>
#include <sys/stat.h>

#include "base/macro.h"

/* Size, type and mode, owner, device number, modification time in whole seconds (some upper file systems
 * keep no more). */
uint64_t digest_stat(const struct stat *st) _pure_;
/* Size and modification time of a file: what is recorded in place of that while its owner, mode and xattrs
 * are set one after the other, so that what a kill leaves half done counts as nobody's. */
uint64_t digest_content(const struct stat *st) _pure_;
/* Those xattrs that every upper can hold as they are in a lower layer: of users, trusted ones but those of
 * overlayfs itself, capabilities, POSIX ACLs; not labels, which the policy of the machine sets. 0 where they
 * cannot be read. A file system that knows none has an empty set. */
uint64_t digest_xattrs(int dfd, const char *name);
#define DIGEST_NO_XATTRS 1 /* of the empty set */
/* Owner, mode and these xattrs of a directory, whose size and times say nothing; 0 where they cannot be
 * read. */
uint64_t digest_directory(int dfd, const char *path);
/* In place of that in a record, while a refresh sets these one after the other: what a kill leaves half done
 * is nobody's then. digest_directory() never returns it. */
#define BASELINE_IN_TRANSIT 1
/* Of the last change to content or attributes, in nanoseconds. */
uint64_t digest_ctime(const struct stat *st) _pure_;
