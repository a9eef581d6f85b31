/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the upper layer says: xattrs of overlayfs, classes of entries, the lower path of a directory. Reads
 * only, by descriptor, on the upper file system; the lower is never asked. It follows the kernel's own
 * rules of lookup. docs/overlayfs.md 1.1, 2.1. */
#pragma once

#include "base/macro.h"

#define XATTR_OPAQUE "trusted.overlay.opaque"
#define XATTR_REDIRECT "trusted.overlay.redirect"
#define XATTR_METACOPY "trusted.overlay.metacopy"
#define XATTR_ORIGIN "trusted.overlay.origin"
/* The first byte of an origin, of the kernels there are; and one that no kernel will know. */
#define ORIGIN_VERSION 0
#define ORIGIN_VERSION_DETACHED '\xff'
#define ORIGIN_SIZE_MAX 256 /* a header and a file handle of 128 bytes at most */
#define XATTR_IMPURE "trusted.overlay.impure"
#define XATTR_WHITEOUT "trusted.overlay.whiteout"
#define XATTR_PROTATTR "trusted.overlay.protattr" /* chattr +i, +a through the overlay */

typedef enum UpperClass {
        UPPER_MISSING,  /* no entry in the upper */
        UPPER_WHITEOUT, /* 0/0 device */
        UPPER_METACOPY, /* file whose data is in a lower layer */
        UPPER_COMPLETE, /* any non-directory that needs no lower layer */
        UPPER_OPAQUE,   /* directory with opaque=y */
        UPPER_REDIRECT, /* directory, not opaque, with a redirect: merged with another lower name */
        UPPER_PLAIN, /* directory, not opaque, no redirect: merged with the same name, or pure where there is
                        none */
} UpperClass;

typedef struct UpperEntry {
        UpperClass class;
        unsigned char type; /* DT_ value; DT_UNKNOWN when missing */
        uint64_t inode;     /* of the upper file system; 0 when missing */
        uint64_t size;
        uint32_t n_links;
        bool has_origin;
        bool has_live_origin; /* the kernel looks for it in a lower layer (docs/overlayfs.md 1.9) */
        char *redirect;       /* owned; NULL if none */
} UpperEntry;

/* Classifies name in the upper directory dfd ("" is dfd itself). A missing entry is no error. */
int upper_entry_read(int dfd, const char *name, UpperEntry *ret);
void upper_entry_done(UpperEntry *e);

/* A merge child needs a lower layer: metacopy file, or a directory that is merged by redirect. Whether it is
 * resolvable without its parent (absolute redirect; docs/overlayfs.md 2.3) is the second question. */
bool upper_entry_is_merge_child(const UpperEntry *e) _pure_;
bool upper_entry_has_absolute_redirect(const UpperEntry *e) _pure_;
/* Whether the kernel takes it: "/a/b" or "name". */
bool upper_redirect_is_valid(const char *s) _pure_;

/* Follows path (relative to the overlay's root) through the upper as the kernel does (ovl_lookup()).
 * Sets *ret_lower to the lower path without leading '/' ("" is the root), or NULL when the directory has no
 * lower counterpart that counts (it, or an ancestor without a later absolute redirect, is opaque).
 * *ret_in_upper: whether path itself stands in the upper. -ENOTDIR, -EINVAL for a malformed redirect. */
int upper_lower_path(int upper_fd, const char *path, char **ret_lower, bool *ret_in_upper);
/* The same for a directory of the upper that is open already: right also if it, or one above it, is renamed
 * meanwhile. -ESTALE: another directory stands at path. */
int upper_lower_path_of(int upper_fd, const char *path, int dir_fd, char **ret_lower);
