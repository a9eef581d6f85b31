/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/upper/names.h"

#include <string.h>

#include "base/path-util.h"

static bool is_id(const char *s, size_t length) {
        return length == STAGING_ID_LENGTH && strspn(s, "0123456789abcdef") >= length;
}

bool is_staging_id(const char *s) {
        return is_id(s, strlen(s));
}

/* Of the first component of a path; users have names that begin like ours. */
static bool is_old_tree_name(const char *path) {
        size_t n = strlen(OLD_TREE_PREFIX);

        return strncmp(path, OLD_TREE_PREFIX, n) == 0 && is_id(path + n, strcspn(path + n, "/"));
}

const char *old_tree_id(const char *name) {
        return is_old_tree_name(name) ? name + strlen(OLD_TREE_PREFIX) : NULL;
}

bool is_staging_name(const char *name) {
        return path_startswith(name, STAGING_NAME) || is_old_tree_name(name);
}
