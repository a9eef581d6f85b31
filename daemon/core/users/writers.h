/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether a process could make, remove or rename names in any of some directories: by its credentials
 * against their owner, group, mode and ACL, as the kernel decides (fs/namei.c acl_permission_check(),
 * kernel/capability.c capable_wrt_inode_uidgid()). Who could give himself the right, because a directory is
 * his or by a capability, counts as one who has it, and so does whoever it cannot be told of. What a process
 * may become later (setuid programs) is not foreseen. */
#pragma once

#include "base/proc-scan.h"

typedef struct Writers Writers;

int writers_new(Writers **ret);
Writers *writers_free(Writers *w);
DEFINE_CLEANUP(Writers *, writers_free);
/* A directory that counts, open for reading through the overlay. Blocks on it. */
int writers_add(Writers *w, int fd);
/* Whether the process of t, standing where link (in t->fd) leads, could. Blocks on /proc only. */
bool writers_include(Writers *w, const ProcTask *t, const char *link);
