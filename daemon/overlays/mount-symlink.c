/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "overlays/mount-symlink.h"

#include <limits.h>
#include <string.h>

static bool is_local(const MountTable *table, const char *path) {
        static const char *const types[] = { "ext2",  "ext3", "ext4",  "xfs",      "btrfs",
                                             "tmpfs", "f2fs", "ramfs", "bcachefs", "zfs" };
        const MountEntry *e = mount_table_reach(table, path);

        for (size_t i = 0; e && i < ELEMENTSOF(types); i++)
                if (strcmp(e->type, types[i]) == 0)
                        return true;
        return false;
}

int mount_symlink_find(const MountTable *table, const char *path, char **ret_link, char **ret_target) {
        char target[PATH_MAX];

        for (const char *end = path + 1; end[-1]; end++) {
                _cleanup_free_ char *part = NULL;
                ssize_t n;

                if (*end && *end != '/')
                        continue;
                part = strndup(path, (size_t) (end - path));
                if (!part)
                        return -ENOMEM;
                if (!is_local(table, part))
                        return 0;
                n = readlink(part, target, sizeof(target) - 1);
                if (n < 0 && errno != EINVAL) /* as for all that is no symlink */
                        return 0;
                if (n < 0)
                        continue;
                target[n] = '\0';
                *ret_target = strdup(target);
                *ret_link = *ret_target ? TAKE_PTR(part) : NULL;
                return *ret_link ? 1 : -ENOMEM;
        }
        return 0;
}
