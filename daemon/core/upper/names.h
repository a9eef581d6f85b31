/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names of ours in an overlay: staging, its ids, old trees that stand beside their directory. No file is
 * touched here. What has such a name is never listed, finalized or watched; a name that only begins like one
 * is a user's. */
#pragma once

#include "base/macro.h"

/* Names of ours in an overlay. Nothing that starts so is ever listed, finalized or
 * watched. */
#define STAGING_NAME ".ovlfind"
#define OLD_TREE_PREFIX                                                                                     \
        ".ovlfind-old-" /* + id: an old tree beside its directory, kept while somebody stands in it */
#define STAGING_ID_LENGTH 16

/* 16 hex digits: the id of a piece of work. */
bool is_staging_id(const char *s) _pure_;
/* The id in the name of an old tree that stands beside its directory, or NULL: users have names that begin
 * like it. */
const char *old_tree_id(const char *name) _pure_;
/* Any name of ours: STAGING_NAME or OLD_TREE_PREFIX. name may go on with '/' and more. */
bool is_staging_name(const char *name) _pure_;
